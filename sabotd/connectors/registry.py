"""Names to connectors, each imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final, cast

from planner.task_spec import Columns, SinkOp, SourceOp
from sabot.errors import SqlError
from sabotd.connectors.base import Connector, OptionSpec, SourceReader
from sabotd.connectors.envelopes import ChangeReader, envelope_op
from sabotd.connectors.options import check_options, did_you_mean
from sabotd.formats.decode import FORMAT_OPTIONS

_MODULES: Final = {
    "blackhole": "sabotd.connectors.blackhole",
    "datagen": "sabotd.connectors.datagen",
    "file": "sabotd.connectors.file",
    "kafka": "sabotd.connectors.kafka",
    "mqtt": "sabotd.connectors.mqtt",
    "nexmark": "sabotd.connectors.nexmark",
    "print": "sabotd.connectors.print_",
}

COMMON_OPTIONS: Final[dict[str, OptionSpec]] = {
    "connector": OptionSpec("str", doc="which connector"),
    "format": OptionSpec("str", doc="what FORMAT says"),
}
"""Options every statement may carry: what the FORMAT clause and WITH say about the connector itself."""


def names() -> tuple[str, ...]:
    """Return the names of all connectors, sorted."""
    return tuple(sorted(_MODULES))


def connector(name: str) -> Connector:
    """Return the connector `name`.

    Raises
    ------
    SqlError
        If there is none; the hint names the nearest.
    """
    module = _MODULES.get(name.lower())
    if module is None:
        msg = f"connector {name!r} is not known"
        hint = did_you_mean(name.lower(), _MODULES) or f"the connectors are {', '.join(names())}"
        raise SqlError(msg, hint=hint, sqlstate="42704")
    return cast("Connector", importlib.import_module(module).CONNECTOR)


def option_specs(name: str) -> dict[str, OptionSpec]:
    """Return every option of a connector: its own, the format's, the common ones."""
    return {**COMMON_OPTIONS, **FORMAT_OPTIONS, **connector(name).options}


def check(op: SourceOp | SinkOp) -> None:
    """Check the options of a source or sink: names, kinds, required ones. Touches nothing outside.

    Raises
    ------
    SqlError
        With the nearest option name as the hint.
    """
    role = "source" if isinstance(op, SourceOp) else "sink"
    check_options(op.options, option_specs(op.connector), role=role, connector=op.connector)
    kind = op.options.get("format", "plain").lower()
    kinds = connector(op.connector).sink_formats if isinstance(op, SinkOp) else connector(op.connector).source_formats
    if kind not in kinds:
        msg = f"connector {op.connector!r} has no FORMAT {kind.upper()} for a {role}"
        raise SqlError(msg, hint=f"it has {', '.join(k.upper() for k in kinds)}", sqlstate="0A000")


def open_source(op: SourceOp, index: int, parallelism: int) -> SourceReader:
    """Open the reader of source task `index` of `parallelism`: of rows, or of changes if its records tell those."""
    reader = connector(op.connector).open_source(envelope_op(op), index, parallelism)
    return ChangeReader(op, reader) if op.changes else reader


def validate_source(op: SourceOp) -> None:
    """Check a source at CREATE, options and what they name.

    Raises
    ------
    SqlError
        The statement is wrong.
    ConnectorError
        What it names is not there.
    """
    check(op)
    if op.changes and (op.format or "json") != "json":
        msg = f"FORMAT {op.changes.upper()} ENCODE {str(op.format).upper()} is not supported"
        raise SqlError(msg, hint="records that tell changes are JSON", sqlstate="0A000")
    connector(op.connector).validate(envelope_op(op))


def default_schema(name: str, options: Mapping[str, str]) -> Columns | None:
    """Return the columns of a source declared without columns; None if the connector has none of its own."""
    return connector(name).default_schema(options)


def is_finite(op: SourceOp) -> bool:
    """Whether the source ends by itself."""
    return connector(op.connector).is_finite(op.options)
