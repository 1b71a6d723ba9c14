"""A table, a view over it, and its changes as they happen: python examples/python_client.py [grpc://HOST:PORT]."""

from __future__ import annotations

import sys

import sabot


def main(url: str | None = None) -> None:
    """Run on the server at `url`, or on a private one that ends with this program."""
    with sabot.connect(url) as db:
        db.sql("CREATE TABLE sales (item VARCHAR, cents BIGINT)")
        db.sql("CREATE MATERIALIZED VIEW takings AS SELECT item, sum(cents) AS cents FROM sales GROUP BY item")
        db.executemany("INSERT INTO sales VALUES (?, ?)", [("tea", 300), ("cake", 450), ("tea", 300)])
        db.sql("FLUSH")  # until here every view shows all of it
        print(db.sql("SELECT * FROM takings ORDER BY item"))

        with db.subscribe("takings") as changes:  # the rows as they are, then what happens to them
            db.sql("INSERT INTO sales VALUES (?, ?)", ["cake", 450])
            for batch in changes:
                for row in batch.to_pylist():
                    print("+" if row["__weight"] > 0 else "-", row["item"], row["cents"])
                if 900 in batch["cents"].to_pylist():
                    break

        db.sql("DROP TABLE sales CASCADE")


if __name__ == "__main__":
    main(*sys.argv[1:])
