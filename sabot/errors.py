"""The errors of Sabot: one base with domain, SQLSTATE and hint, one class a layer.

Every class pickles and travels the wire as plain data (:meth:`SabotError.to_wire`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Domain(enum.Enum):
    """Who has to act: the user, something outside, or we."""

    USER = "user"
    EXTERNAL = "external"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Span:
    """A half-open range of character offsets ``[start, end)`` in a SQL text."""

    start: int
    end: int


class SabotError(Exception):
    """Base of all errors that Sabot raises on purpose.

    Parameters
    ----------
    message : str
        Lower case, no full stop, the offender by ``!r``.
    hint : str, optional
        What to do about it.
    sqlstate : str, optional
        PostgreSQL's five-character code; the class has a default.
    retryable : bool
        Whether the same call may succeed later.
    """

    domain: Domain = Domain.INTERNAL
    default_sqlstate: str = "XX000"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        sqlstate: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.sqlstate = sqlstate or self.default_sqlstate
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return (error_from_wire, (self.to_wire(),))

    def to_wire(self) -> dict[str, Any]:
        """Return the error as plain JSON data."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "sqlstate": self.sqlstate,
            "retryable": self.retryable,
        }


class SqlError(SabotError):
    """A statement is wrong; ``span`` points into ``text``, the statement's whole source text."""

    domain = Domain.USER
    default_sqlstate = "42601"

    def __init__(
        self,
        message: str,
        *,
        span: Span | None = None,
        text: str | None = None,
        hint: str | None = None,
        sqlstate: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, sqlstate=sqlstate, retryable=retryable)
        self.span = span
        self.text = text

    def to_wire(self) -> dict[str, Any]:
        wire = super().to_wire()
        wire["span"] = [self.span.start, self.span.end] if self.span else None
        wire["text"] = self.text
        return wire


class PlanError(SabotError):
    """A planning rule broke its promise; names the rule."""


class ShuffleError(SabotError):
    """Rows between tasks were lost, reordered, of another schema, or the peer died."""

    domain = Domain.EXTERNAL
    default_sqlstate = "08006"


class JobError(SabotError):
    """A job cannot go on."""

    default_sqlstate = "58000"


class ConnectorError(SabotError):
    """Something outside (broker, file) refused or vanished."""

    domain = Domain.EXTERNAL
    default_sqlstate = "58030"


class ConfigError(SabotError):
    """A setting is wrong; the message carries file and line."""

    domain = Domain.USER
    default_sqlstate = "F0000"


class ClientError(SabotError):
    """The client cannot reach or understand the daemon."""

    domain = Domain.EXTERNAL
    default_sqlstate = "08000"


class InternalError(SabotError):
    """A bug of ours."""


_CLASSES: dict[str, type[SabotError]] = {
    cls.__name__: cls
    for cls in (
        SabotError,
        SqlError,
        PlanError,
        ShuffleError,
        JobError,
        ConnectorError,
        ConfigError,
        ClientError,
        InternalError,
    )
}


def error_from_wire(wire: dict[str, Any]) -> SabotError:
    """Rebuild an error from :meth:`SabotError.to_wire`; an unknown type becomes ``SabotError``."""
    cls = _CLASSES.get(wire["type"], SabotError)
    kwargs: dict[str, Any] = {
        "hint": wire.get("hint"),
        "sqlstate": wire.get("sqlstate"),
        "retryable": bool(wire.get("retryable")),
    }
    if issubclass(cls, SqlError):
        span = wire.get("span")
        kwargs["span"] = Span(span[0], span[1]) if span else None
        kwargs["text"] = wire.get("text")
    return cls(wire["message"], **kwargs)
