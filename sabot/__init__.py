"""Sabot: streaming SQL; shared vocabulary and the Python client.

``sabot.connect()`` is where a user starts; what it needs is loaded then.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

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

__version__: Final = "0.1.0"

if TYPE_CHECKING:
    from sabot.client import connect
    from sabot.client_app import App, Job
    from sabot.client_connection import Connection, RelationInfo
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

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "App",
    "Binary",
    "ClientError",
    "ConfigError",
    "Connection",
    "ConnectorError",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Job",
    "JobError",
    "NotSupportedError",
    "OperationalError",
    "PlanError",
    "ProgrammingError",
    "RelationInfo",
    "Result",
    "SabotError",
    "ShuffleError",
    "SqlError",
    "Subscription",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "__version__",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

_HOME: Final = {
    "connect": "sabot.client",
    "App": "sabot.client_app",
    "Job": "sabot.client_app",
    "Connection": "sabot.client_connection",
    "RelationInfo": "sabot.client_connection",
    "Result": "sabot.client_result",
    "Subscription": "sabot.client_subscription",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use; those without another home are PEP 249's."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME.get(name, "sabot.dbapi")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
