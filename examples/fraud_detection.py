"""A graph written by hand: card payments, those of a user that follow each other too fast or are too large together.

    python examples/fraud_detection.py [FOLDER]

27 tasks: transactions (10) -> enrich (10) -> fraud check (5, by user, with state) -> alerts (2). The alerts are files
in FOLDER (a temporary one by default), and the example counts them again by itself.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

import sabot
from planner import JobGraph, OperatorType

PAYMENTS = 20_000
USERS = 500
LIMIT_CENTS = 450_000
COLUMNS = {"id": "BIGINT", "user_id": "BIGINT", "cents": "BIGINT", "country": "BIGINT"}
OPTIONS = {
    "rows": PAYMENTS,
    "seed": 7,
    "fields.id.kind": "sequence",
    "fields.id.end": PAYMENTS - 1,
    "fields.id.start": 0,
    "fields.user_id.min": 0,
    "fields.user_id.max": USERS - 1,
    "fields.cents.min": 100,
    "fields.cents.max": 10_000,
    "fields.country.min": 0,
    "fields.country.max": 9,
}


class FraudCheck:
    """Adds up what each user has spent; the state of a task are the users whose rows come to it.

    An alert a user: when the sum, a payment abroad counted twice, has passed the limit. What a user has spent at the
    end of an epoch does not depend on the order in which the payments of ten tasks came.
    """

    def __init__(self) -> None:
        self.spent: dict[int, int] = {}
        self.touched: set[int] = set()
        self.told: set[int] = set()

    def process(self, batch: pa.RecordBatch) -> None:
        """Add a batch to the sums; nothing is said before the epoch ends."""
        users, at = np.unique(batch.column("user_id").to_numpy(), return_inverse=True)
        sums = np.zeros(len(users), np.int64)
        np.add.at(sums, at, batch.column("weighted_cents").to_numpy())
        for user, cents in zip(users.tolist(), sums.tolist(), strict=True):
            self.spent[user] = self.spent.get(user, 0) + cents
            self.touched.add(user)

    def barrier(self) -> pa.RecordBatch | None:
        """Return the users that have passed the limit in this epoch."""
        found = sorted(u for u in self.touched - self.told if self.spent[u] > LIMIT_CENTS)
        self.told.update(found)
        self.touched.clear()
        return pa.record_batch({"user_id": pa.array(found, pa.int64())}) if found else None


def make_graph(folder: Path) -> JobGraph:
    """Return the job."""
    graph = JobGraph("fraud_detection")
    transactions = graph.add_operator(
        "transactions", OperatorType.SOURCE, 10, connector="datagen", options=OPTIONS, columns=COLUMNS
    )
    enrich = graph.add_operator(
        "enrich",
        OperatorType.MAP,
        10,
        sql="id, user_id, CASE WHEN country = 0 THEN cents ELSE 2 * cents END AS weighted_cents",
    )
    check = graph.add_operator(
        "fraud check", OperatorType.MAP, 5, function=FraudCheck, columns={"user_id": "BIGINT"}, stateful=True
    )
    alerts = graph.add_operator(
        "alerts", OperatorType.SINK, 2, connector="file", options={"path": folder}, format="json"
    )
    graph.connect(transactions, enrich)
    graph.connect(enrich, check, key_by=["user_id"])
    graph.connect(check, alerts)
    return graph


def expected(app: sabot.App) -> set[int]:
    """Return the users to be told of, by SQL over the same payments."""
    columns = ", ".join(f"{name} {type_text}" for name, type_text in COLUMNS.items())
    options = ", ".join(f"{key} = '{value}'" for key, value in OPTIONS.items())
    for statement in (
        f"CREATE SOURCE payments ({columns}) WITH (connector = 'datagen', {options})",
        """CREATE MATERIALIZED VIEW spent AS SELECT user_id,
           sum(CASE WHEN country = 0 THEN cents ELSE 2 * cents END) AS cents FROM payments GROUP BY user_id""",
        "FLUSH",
    ):
        app.connection.execute(statement).close()
    rows = app.connection.sql(f"SELECT user_id FROM spent WHERE cents > {LIMIT_CENTS}").fetchall()
    return {user for (user,) in rows}


def main(folder: Path) -> int:
    """Run the job, show where rows went, and compare the alerts with SQL."""
    graph = make_graph(folder)
    execution = graph.to_execution_graph()
    kinds = ", ".join(edge.type.value for edge in execution.edges)
    print(f"{len(execution.tasks)} tasks, edges {kinds}")
    with sabot.App("fraud_detection") as app:
        job = app.submit(graph)
        job.wait()
        print(job.explain(analyze=True))
        found = Counter(
            json.loads(line)["user_id"] for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()
        )
        wanted = expected(app)
    right = found == Counter(wanted)
    print(f"{len(found)} of {USERS} users told of: {'right' if right else 'WRONG'}")
    return 0 if right else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
