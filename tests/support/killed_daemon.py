"""A sabotd that kills itself at a step of a durable workflow, where the file named first on its command line says so.

The file holds ``WORKFLOW N MOMENT``: at the N-th thing that DBOS is to write down of a workflow of that kind (a step's
result, in the end the workflow's own), counted from when the file is there, the process sends itself SIGKILL,
``before`` that is written (what the step does has been done then) or ``after``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos._sys_db import SystemDatabase


def arm(file: Path) -> None:
    """Look at `file` whenever something is written down."""
    seen = 0

    def around(write: Callable[[], Any], workflow_id: str) -> Any:
        nonlocal seen
        if not file.exists():
            return write()
        kind, number, moment = file.read_text().split()
        if workflow_id.partition(":")[0] != kind:
            return write()
        here = seen == int(number)
        seen += 1
        if here and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = write()
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    record, end = SystemDatabase.record_operation_result, SystemDatabase.update_workflow_outcome

    def record_step(self: SystemDatabase, result: Any, **more: Any) -> None:
        around(lambda: record(self, result, **more), result["workflow_uuid"])

    def record_end(self: SystemDatabase, workflow_id: str, status: Any, **more: Any) -> bool:
        return bool(around(lambda: end(self, workflow_id, status, **more), workflow_id))

    SystemDatabase.record_operation_result = record_step  # type: ignore[method-assign]
    SystemDatabase.update_workflow_outcome = record_end  # type: ignore[method-assign]


if __name__ == "__main__":
    from sabotd.cli import main

    arm(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
