"""The changelog mode of a stream: whether rows may be taken back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Changelog(enum.Enum):
    """What the rows of a stream say. Only ``RETRACT`` carries ``__weight``."""

    APPEND_ONLY = "append-only"
    RETRACT = "retracting"
    PARTIAL = "partials"
    """Partial aggregates on their way to where they are merged."""


@dataclass(frozen=True)
class Monotone:
    """How the rows of a retracting stream change where they never go: a row is only ever replaced by its successor.

    The successor has the same `fixed` columns, no smaller `rising` and no greater `falling` ones (NULL before any).
    The maximum of a rising column over a group by fixed ones is then the maximum of all that was ever inserted: no
    retraction is needed to know it.
    """

    fixed: frozenset[str]
    rising: frozenset[str] = frozenset()
    falling: frozenset[str] = frozenset()

    def renamed(self, names: Mapping[str, str]) -> Monotone:
        """Return the same after a projection that passes field ``k`` on as ``names[k]``."""

        def kept(columns: frozenset[str]) -> frozenset[str]:
            return frozenset(names[c] for c in columns if c in names)

        return Monotone(kept(self.fixed), kept(self.rising), kept(self.falling))
