"""Sabot: streaming SQL; shared vocabulary and the Python client.

``sabot.connect()`` is where a user starts; what it needs is loaded then.
"""
# ruff: noqa: F401  the imports are for type checkers, `__getattr__` does them

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

__version__: Final = "0.1.0"

if TYPE_CHECKING:
    from sabot.client import Connection, connect
    from sabot.client_result import Result
    from sabot.client_subscription import Subscription
    from sabot.dbapi import (
        BINARY,
        DATETIME,
        NUMBER,
        ROWID,
        STRING,
        Binary,
        Cursor,
        DatabaseError,
        DataError,
        Date,
        DateFromTicks,
        Error,
        IntegrityError,
        InterfaceError,
        NotSupportedError,
        OperationalError,
        ProgrammingError,
        Time,
        TimeFromTicks,
        Timestamp,
        TimestampFromTicks,
        Warning,  # noqa: A004  PEP 249's name
        apilevel,
        paramstyle,
        threadsafety,
    )
    from sabot.errors import (
        ClientError,
        ConfigError,
        ConnectorError,
        InternalError,
        JobError,
        PlanError,
        SabotError,
        ShuffleError,
        SqlError,
    )

_HOMES: Final = {
    "sabot.client": ("Connection", "connect"),
    "sabot.client_result": ("Result",),
    "sabot.client_subscription": ("Subscription",),
    "sabot.dbapi": (
        "BINARY",
        "DATETIME",
        "NUMBER",
        "ROWID",
        "STRING",
        "Binary",
        "Cursor",
        "DataError",
        "DatabaseError",
        "Date",
        "DateFromTicks",
        "Error",
        "IntegrityError",
        "InterfaceError",
        "NotSupportedError",
        "OperationalError",
        "ProgrammingError",
        "Time",
        "TimeFromTicks",
        "Timestamp",
        "TimestampFromTicks",
        "Warning",
        "apilevel",
        "paramstyle",
        "threadsafety",
    ),
    "sabot.errors": (
        "ClientError",
        "ConfigError",
        "ConnectorError",
        "InternalError",
        "JobError",
        "PlanError",
        "SabotError",
        "ShuffleError",
        "SqlError",
    ),
}
_HOME: Final = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    module = _HOME.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
