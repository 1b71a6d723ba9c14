"""The examples in docs/sql.md are read, and their views bind."""

from __future__ import annotations

import re
from pathlib import Path

from sql_frontend.parse import parse_script
from sql_frontend.statements import CreateSink, CreateTable, CreateView, Select
from tests.support.memory_catalog import MemoryCatalog

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"


def test_the_examples_work() -> None:
    catalog = MemoryCatalog("CREATE TABLE bid (auction BIGINT, price BIGINT, date_time TIMESTAMP)")
    examples = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 5
    seen = set()
    for example in examples:
        for statement in parse_script(example):
            seen.add(type(statement))
            if isinstance(statement, CreateSink):
                assert statement.query is not None
                catalog.bind(statement.query)
            elif isinstance(statement, Select):
                catalog.bind(statement.text)
            elif isinstance(statement, CreateTable | CreateView) or hasattr(statement, "watermark"):
                catalog.run(statement.text)
    assert {CreateSink, CreateTable, CreateView, Select} <= seen
