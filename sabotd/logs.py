"""Logging to standard error, as text or as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import time


class _Text(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s")
        self.converter = time.gmtime


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        entry = {
            "time": moment,
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure_logging(level: str, form: str, *, process: str) -> None:
    """Send all logs of `level` and above to stderr; `process` names the process in each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(process) if form == "json" else _Text(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # chatty about every workflow and start-up of theirs; ours say what matters
    logging.getLogger("dbos").setLevel(logging.ERROR if level != "debug" else logging.INFO)
    for name in ("sqlalchemy", "sqlglot"):
        logging.getLogger(name).setLevel(logging.WARNING)
