"""How rows lie over the tasks of an operator, what an input requires, and when one satisfies the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Single:
    """All rows in one task."""

    def __str__(self) -> str:
        return "single"


@dataclass(frozen=True)
class Hash:
    """Rows with equal `keys` in one task: by the hash of the keys in this order and the job's key-group map.

    As a provided distribution, `also` names further key lists that are equal row by row (a join's other side). As a
    required one, `exact` asks for these very keys in this order: both inputs of a join must agree.
    """

    keys: tuple[str, ...]
    also: tuple[tuple[str, ...], ...] = ()
    exact: bool = False

    def alternatives(self) -> tuple[tuple[str, ...], ...]:
        """Return every key list by which the rows are partitioned."""
        return (self.keys, *self.also)

    def __str__(self) -> str:
        return f"hash({', '.join(self.keys)})"


@dataclass(frozen=True)
class Broadcast:
    """All rows in every task."""

    def __str__(self) -> str:
        return "broadcast"


@dataclass(frozen=True)
class AnyDistribution:
    """Nothing known, or nothing required."""

    def __str__(self) -> str:
        return "any"


@dataclass(frozen=True)
class Rebalance:
    """Dealt evenly, wherever the rows lie. Only ever required: against skew, and before slow work."""

    def __str__(self) -> str:
        return "rebalance"


@dataclass(frozen=True)
class Range:
    """Cut by the order of `column`: task i has the rows with ``bounds[i - 1] <= column < bounds[i]``, NULL the last.

    `bounds` are texts that cast to the column's type; one less than there are tasks.
    """

    column: str
    bounds: tuple[str, ...]

    def __str__(self) -> str:
        return f"range({self.column}: {', '.join(self.bounds)})"


@dataclass(frozen=True)
class Custom:
    """Placed by a user's function from a batch to task indices: `path` (``module:qualname``) or `pickled`."""

    path: str = ""
    pickled: bytes = b""

    def __str__(self) -> str:
        return f"custom({self.path or 'pickled'})"


Distribution: TypeAlias = Single | Hash | Broadcast | AnyDistribution | Rebalance | Range | Custom


def satisfies(provided: Distribution, required: Distribution) -> bool:
    """Whether rows that lie as `provided` need no exchange where `required` is asked for.

    Rows hashed by some of the required keys satisfy: equal rows are together already.
    """
    match required:
        case AnyDistribution():
            return not isinstance(provided, Broadcast)
        case Rebalance() | Range() | Custom():
            return False
        case Single():
            return isinstance(provided, Single)
        case Broadcast():
            return isinstance(provided, Broadcast)
        case Hash(keys=keys, exact=exact):
            if isinstance(provided, Single):
                return True
            if not isinstance(provided, Hash):
                return False
            if exact:
                return keys in provided.alternatives()
            return any(keys_ and set(keys_) <= set(keys) for keys_ in provided.alternatives())


def renamed(provided: Distribution, names: Mapping[str, str]) -> Distribution:
    """Return `provided` after a projection that passes field ``k`` on as ``names[k]``; a key that is lost loses it."""
    if not isinstance(provided, Hash):
        return provided
    kept = [tuple(names[k] for k in keys) for keys in provided.alternatives() if all(k in names for k in keys)]
    return Hash(kept[0], tuple(kept[1:])) if kept else AnyDistribution()
