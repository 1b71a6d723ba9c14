"""The changelog mode of a stream: whether rows may be taken back."""

from __future__ import annotations

import enum


class Changelog(enum.Enum):
    """What the rows of a stream say. Only ``RETRACT`` carries ``__weight``."""

    APPEND_ONLY = "append-only"
    RETRACT = "retract"
    PARTIAL = "partials"
    """Partial aggregates on their way to where they are merged."""
