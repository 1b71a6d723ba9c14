"""What the catalog and EXPLAIN ANALYZE tell of a shuffle between processes: rows, waits, skew and the heaviest keys."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.fix_server import Server


def test_a_skewed_key_shows(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "clicks.ndjson"
    count, heavy = 4000, 3000
    with path.open("w") as file:
        for i in range(count):
            file.write(json.dumps({"id": i, "who": "crowd" if i % 4 else f"u{i}"}) + "\n")
    server.run(
        "SET parallelism = 4",
        f"CREATE SOURCE clicks (id BIGINT, who VARCHAR) WITH (connector = 'file', path = '{path}', mode = 'once') "
        "FORMAT PLAIN ENCODE JSON",
        "CREATE TABLE users (who VARCHAR, city VARCHAR)",
        "CREATE MATERIALIZED VIEW places AS SELECT c.id, u.city FROM clicks c JOIN users u ON c.who = u.who",
        "FLUSH",
        "RESET parallelism",
    )
    figures = server.db.sql(
        "SELECT rows, wait_up_ms, wait_down_ms, skew, heaviest_keys FROM sabot_catalog.shuffle_edges "
        "WHERE keys = 'who' AND rows > 0"
    ).fetchall()
    ((rows, wait_up_ms, wait_down_ms, skew, heaviest),) = figures
    assert rows == count
    assert wait_up_ms >= 0
    assert wait_down_ms >= 0
    assert 4 * heavy / count <= skew <= 4
    key, _, about = heaviest.split(", ")[0].partition(": ")
    assert key == "crowd"
    assert abs(int(about) - heavy) < 0.2 * heavy
    text = "\n".join(str(r[0]) for r in server.rows("EXPLAIN ANALYZE places"))
    assert "Shuffle so far" in text
    assert f"{count} rows" in text
    assert f"heaviest who, about: {heaviest}" in text
