"""Reports of records that did not decode, and of rows that failed, as rows of ``sabot_errors``."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa

from sabotd.agent import messages as msg


def error_rows(report: msg.BadRecordReport) -> pa.Table:
    """Return a report's records as rows, seen now."""
    now = dt.datetime.now(dt.UTC)
    offsets, payloads, reasons = zip(*report.records, strict=True)
    count = len(report.records)
    return pa.table(
        {
            "seen_at": pa.array([now] * count, pa.timestamp("us", tz="UTC")),
            "job": [report.job_id] * count,
            "source": [report.source] * count,
            "offset": list(offsets),
            "payload": [p.decode("utf-8", "backslashreplace") for p in payloads],
            "reason": list(reasons),
        }
    )
