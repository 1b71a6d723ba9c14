"""Random rows for the hand-made Nexmark plans."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pyarrow as pa

from planner.logical import Relation
from sabot.schema import arrow_schema
from tests.support.nexmark_plans import NEXMARK

EPOCH = dt.datetime(1970, 1, 1)


def at(microseconds: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=microseconds)


def nexmark_rows(
    rng: random.Random, count: int, *, from_us: int = -20_000_000, step_us: int = 300_000
) -> pa.RecordBatch:
    """Events around 1970, some without a time."""
    rows: list[dict[str, Any]] = []
    for i in range(count):
        kind = rng.choice([0, 1, 1, 2, 2, 2, 2, None])
        time = None if rng.random() < 0.03 else at(from_us + i * step_us + rng.randint(0, 900_000))
        person = {"id": rng.randint(1, 8), "name": rng.choice("ab"), "state": "OR"} if kind == 0 else None
        auction = {"id": rng.randint(1, 5), "seller": rng.randint(1, 8), "reserve": 1} if kind == 1 else None
        bid = None
        if kind == 2:
            price = rng.choice([None, rng.randint(1, 30)])
            bid = {
                "auction": rng.randint(1, 5),
                "bidder": rng.randint(1, 9),
                "price": price,
                "channel": "c",
                "extra": "e",
            }
        rows.append({"event_type": kind, "person": person, "auction": auction, "bid": bid, "date_time": time})
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema(NEXMARK.schema))


def rows_of(relation: Relation, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema(relation.schema))
