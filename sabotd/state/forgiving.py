"""Changes of a view whose operators may have forgotten rows (state_ttl): made to fit the rows that are there."""

from __future__ import annotations

import pyarrow as pa

from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.state.relation import StoredRelation, conform


def forgiven(relation: StoredRelation, key: tuple[str, ...]) -> list[pa.RecordBatch]:
    """Return the changes that ``delta`` of the relation's connection comes to.

    With a key, whatever row has it gives way to the new one. Without, only so many equal rows are taken away as stand.
    """
    names = [quote(f.name) for f in relation.schema]
    columns = ", ".join(names)
    weight = quote(WEIGHT)
    match = [quote(k) for k in key] or names
    same = " AND ".join(f"t.{c} IS NOT DISTINCT FROM n.{c}" for c in match)
    standing = ", ".join(f"t.{c}" for c in names)
    touched = f"(SELECT DISTINCT {', '.join(match)} FROM net{'' if key else f' WHERE {weight} < 0'})"
    there = f"SELECT {standing}, count(*) AS there FROM {relation.path} t JOIN {touched} n ON {same} GROUP BY ALL"
    added = f"SELECT {columns}, {weight} FROM net WHERE {weight} > 0"
    if key:
        gone = f"SELECT {columns}, -there FROM ({there})"
    else:
        listed = ", ".join(f"n.{c}" for c in names)
        gone = (
            f"SELECT {listed}, -least(-n.{weight}, t.there) FROM net n JOIN ({there}) t ON {same} WHERE n.{weight} < 0"
        )

    def summed(rows: str, type_: str) -> str:
        total = f"CAST(sum({weight}) AS {type_}) AS {weight}"
        return f"SELECT {columns}, {total} FROM {rows} GROUP BY ALL HAVING sum({weight}) <> 0"

    told = summed(f"({added} UNION ALL {gone})", "INTEGER")
    net = summed("delta", "BIGINT")
    table = relation.connection.sql(f"WITH net AS MATERIALIZED ({net}) {told}").to_arrow_table()
    schema = relation.arrow.append(pa.field(WEIGHT, pa.int32()))
    return [conform(batch, schema) for batch in table.to_batches() if batch.num_rows]
