"""Shows long results in a pager: $PAGER, else less."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def pager_command() -> list[str] | None:
    """Return the pager's command, None if there is none."""
    if chosen := os.environ.get("PAGER"):
        return shlex.split(chosen)
    return ["less", "-SFRX"] if shutil.which("less") else None


@contextmanager
def paged(out: TextIO) -> Iterator[TextIO]:
    """Give a file whose text the pager shows; `out` itself where there is no pager.

    The pager may be left before all is read: what comes then is dropped, and the query with it.
    """
    command = pager_command()
    if command is None:
        yield out
        return
    out.flush()
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    text = io.TextIOWrapper(process.stdin, encoding="utf-8", write_through=True)
    try:
        with suppress(BrokenPipeError):
            yield text
    finally:
        # Ctrl-C is the pager's while it is up
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with suppress(BrokenPipeError):
                text.close()
            process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
