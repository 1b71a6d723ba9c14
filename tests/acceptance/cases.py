"""Cases read from a folder of JSON files, all brought to one form: steps in each order that is asked for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

_ORDERS_TABLE = (
    "CREATE TABLE ORDERS (ROWTIME TIMESTAMP, ID INT, PRODUCT VARCHAR, UNITS INT)",
    """INSERT INTO ORDERS VALUES ('2015-02-15 10:15:00', 1, 'paint', 10), ('2015-02-15 10:24:15', 2, 'paper', 5),
    ('2015-02-15 10:24:45', 3, 'brush', 12), ('2015-02-15 10:58:00', 4, 'paint', 3),
    ('2015-02-15 11:10:00', 5, 'paint', 3)""",
)
"""Calcite's stream ORDERS, which its case names and does not hold."""


@dataclass(frozen=True)
class Step:
    """A statement and what it must give: ok, error, rows, or nothing that matters (any)."""

    sql: str
    expect: str = "ok"
    rows: tuple[str, ...] = ()
    ordered: bool = False
    connection: str = ""
    retry: bool = False


@dataclass(frozen=True)
class Case:
    """A case: its name (folder/file) and, by order, its steps."""

    name: str
    orders: dict[str, tuple[Step, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where it comes from."""
        return self.name.split("/")[0]

    @property
    def has_jobs(self) -> bool:
        """Whether parallelism can matter."""
        texts = (step.sql for steps in self.orders.values() for step in steps)
        return any(re.search(r"\b(materialized|sink)\b", text, re.IGNORECASE) for text in texts)


def load(root: Path, scratch: Path) -> list[Case]:
    """Read every case below `root`; files that sources are to read are written to `scratch`."""
    cases = []
    for path in sorted(root.glob("*/*.json")):
        data = json.loads(path.read_text())
        name = f"{path.parent.name}/{path.stem}"
        match path.parent.name:
            case "arroyo":
                orders = {"": _arroyo(data, root)}
            case "flink":
                orders = {"": _flink(data, root, scratch)}
            case "calcite":
                orders = {"": _calcite(data)}
            case _:
                orders = _steps_by_order(data, root)
        cases.append(Case(name, orders))
    return cases


def _steps_by_order(data: dict[str, Any], root: Path) -> dict[str, tuple[Step, ...]]:
    if "orders" not in data:
        steps = _steps(data["steps"])
        if not any("flush" in step.sql.lower() for step in steps if step.sql != "FLUSH"):
            # the file that a case was taken from is included by one that sets this
            connections = dict.fromkeys(step.connection for step in steps)
            steps = (*(Step("SET implicit_flush = true", connection=c) for c in connections), *steps)
        return {"": steps}
    parts: dict[str, list[Step]] = {}
    for place in data["setup"]:
        setup = json.loads((root / f"{place}.json").read_text())["steps"]
        parts.setdefault(place.rsplit("/", 1)[-1], []).extend(_steps(setup))
    for part in ("view", "check"):
        parts[part] = list(_steps([s for s in data["steps"] if s.get("part") == part]))
    parts["check"].insert(0, Step("FLUSH"))
    orders = {name: tuple(s for part in order for s in parts[part]) for name, order in data["orders"].items()}
    used = {part for order in data["orders"].values() for part in order}
    assert used <= parts.keys(), "a part that is not known"
    return orders


def _steps(steps: list[dict[str, Any]]) -> tuple[Step, ...]:
    out = []
    for step in steps:
        sql = step.get("sql", "")
        portability = step.get("portability")
        if step["kind"] == "sleep":
            out.append(Step("FLUSH"))
            continue
        if portability == "rw_only" or re.match(r"\s*drop\s+user\b", sql, re.IGNORECASE):
            # users are made by steps that are left out
            continue
        if portability == "noop":
            if "implicit_flush" in sql.lower():
                out.append(Step("SET implicit_flush = true", connection=step.get("connection", "")))
            continue
        expect = step["expect"] if portability != "optional" else "any"
        ordered = step.get("sort_mode") == "nosort" and _is_ordered(sql)
        rows = tuple(step.get("expected_rows", ()))
        out.append(Step(sql, expect, rows, ordered, step.get("connection", ""), bool(step.get("retry"))))
        if expect == "ok" and re.match(r"\s*create\s+materialized", sql, re.IGNORECASE):
            # there a view is filled before CREATE returns
            out.append(Step("FLUSH"))
    return tuple(out)


def _is_ordered(sql: str) -> bool:
    """Whether ORDER BY stands outside of parentheses: nothing else gives an order to hold to."""
    depth, flat = 0, []
    for ch in sql:
        depth += {"(": 1, ")": -1}.get(ch, 0)
        flat.append(ch if depth == 0 else " ")
    return re.search(r"\border\s+by\b", "".join(flat), re.IGNORECASE) is not None


def _arroyo(data: dict[str, Any], root: Path) -> tuple[Step, ...]:
    portable = data["portable"]
    steps = []
    for table in portable["tables"]:
        ddl = (table["ddl_with_watermark"] or table["ddl"]).replace("CREATE TABLE", "CREATE SOURCE")
        encoding = "PLAIN"
        if data["sources"] and any("debezium" in str(s["options"]) for s in data["sources"]):
            encoding = "DEBEZIUM"
        path = root / table["input"]
        steps.append(
            Step(f"{ddl} WITH (connector = 'file', path = '{path}', mode = 'once') FORMAT {encoding} ENCODE JSON")
        )
    expected = portable.get("expected_rows") or data["expected_rows"]
    steps += [Step(portable["mv"]), Step("FLUSH")]
    names = list(expected[0])
    query = f"SELECT {', '.join(_quoted(n) for n in names)} FROM out"
    steps.append(Step(query, "rows", tuple(" ".join(_written(r[n]) for n in names) for r in expected)))
    return tuple(steps)


def _flink(data: dict[str, Any], root: Path, scratch: Path) -> tuple[Step, ...]:
    steps = []
    for place in data["setup"]:
        tables = json.loads((root / f"{place}.json").read_text())["tables"]
        for name, table in tables.items():
            if not re.search(rf"\b{name}\b", data["sql"]):
                continue
            path = scratch / f"{name}.ndjson"
            path.write_text("".join(json.dumps(_flink_row(table["columns"], row)) + "\n" for row in table["rows"]))
            ddl = table["ddl"].replace("CREATE TABLE", "CREATE SOURCE")
            kind = "FLINK_CHANGELOG" if "op" in table["columns"] else "PLAIN"
            steps.append(
                Step(f"{ddl} WITH (connector = 'file', path = '{path}', mode = 'once') FORMAT {kind} ENCODE JSON")
            )
    steps += [Step(f"CREATE MATERIALIZED VIEW result AS {_portable(data)}"), Step("FLUSH")]
    rows = tuple(" ".join(_written(v) for v in row) for row in data["expected_rows"])
    steps.append(Step("SELECT * FROM result", "rows", rows))
    return tuple(steps)


def _portable(data: dict[str, Any]) -> str:
    """The query without the column that the case leaves out of its rows: of an aggregate that is the suite's own."""
    sql = data["sql"]
    left_out = (data.get("dropped_last_column") or "").partition(" ")[0]
    if left_out:
        call = re.search(rf",\s*{left_out}\([^)]*\)(?:\s+as\s+(\w+))?", sql, re.IGNORECASE)
        assert call is not None, "the column to leave out is not there"
        sql = sql[: call.start()] + sql[call.end() :]
        if call[1]:
            sql = re.sub(rf",\s*{call[1]}\b", "", sql)
    return str(sql)


def _flink_row(columns: list[str], row: list[Any]) -> dict[str, Any]:
    values = {n: v["$decimal"] if isinstance(v, dict) else v for n, v in zip(columns, row, strict=True)}
    return {**values, "rowtime": values["ts"]}


def _calcite(data: dict[str, Any]) -> tuple[Step, ...]:
    steps = [Step(sql) for sql in _ORDERS_TABLE]
    for step in data["steps"]:
        rows = tuple(" ".join(_written(v) for v in row) for row in step["expected_rows"])
        steps += [
            Step(f"CREATE MATERIALIZED VIEW v{step['n']} AS {step['sql']}"),
            Step("FLUSH"),
            Step(f"SELECT * FROM v{step['n']}", "rows", rows),
            Step(f"DROP MATERIALIZED VIEW v{step['n']}"),
        ]
    return tuple(steps)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _written(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d)", r"\1 \2", value) or "(empty)"
    return str(Decimal(str(value))) if isinstance(value, float) else str(value)
