"""The command line of the daemon and its agents."""

from __future__ import annotations

import argparse
import importlib.abc
import sys
from collections.abc import Sequence
from pathlib import Path

from sabot.errors import SabotError


class _NoPandas(importlib.abc.MetaPathFinder):
    """Keeps pandas out, which pyarrow imports where it is installed, for nothing here: 0.2 s, 40 MB a process."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            msg = "pandas is not used in the daemon"
            raise ModuleNotFoundError(msg, name=fullname)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``sabotd``; returns the exit status: 0, or 2 when it cannot start."""
    sys.meta_path.insert(0, _NoPandas())
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["agent"]:
            return _agent(arguments[1:])
        return _daemon(arguments)
    except SabotError as error:
        hint = f" ({error.hint})" if error.hint and error.hint not in error.message else ""
        sys.stderr.write(f"sabotd: {error.message}{hint}\n")
        return 2


def _daemon(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sabotd", description="Sabot's daemon: streaming SQL in one process tree.")
    parser.add_argument("--config", metavar="FILE", help="settings (TOML); see conf/sabotd.toml")
    parser.add_argument("--check-config", nargs="?", const="", metavar="FILE", help="check the settings and leave")
    parser.add_argument("--data", metavar="DIR", help="folder of all data, instead of server.data_dir")
    parser.add_argument("--listen", metavar="LOCATION", help="where to take clients, instead of server.listen")
    parser.add_argument("--agents", type=int, metavar="N", help="agent processes, instead of agents.count")
    parser.add_argument("--embedded", action="store_true", help="end when standard input ends")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write one line of JSON there when ready")
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    args = parser.parse_args(arguments)
    # imports of a second's worth come after what can be answered without them
    if args.version:
        from importlib.metadata import version

        sys.stdout.write(f"sabotd {version('sabot')}\n")
        return 0
    from sabotd.config import Config, load_config

    if args.check_config is not None:
        path = args.check_config or args.config
        if not path:
            parser.error("--check-config needs a file")
        load_config(path)
        sys.stdout.write(f"{path}: no mistakes found\n")
        return 0
    config = load_config(args.config) if args.config else Config()
    from sabotd.daemon import run_daemon

    return run_daemon(
        config,
        data_dir=Path(args.data).absolute() if args.data else None,
        listen=args.listen,
        agents=args.agents,
        embedded=args.embedded,
        ready_fd=args.ready_fd,
    )


def _agent(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sabotd agent", description="An agent: runs tasks for a sabotd.")
    parser.add_argument("--id", required=True)
    parser.add_argument("--listen", required=True, metavar="LOCATION")
    parser.add_argument("--coordinator", required=True, metavar="LOCATION")
    parser.add_argument("--state-dir", required=True, type=Path)
    parser.add_argument("--pool-bytes", type=int, default=256 << 20)
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--idle-timeout", type=float, default=10.0)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="text")
    parser.add_argument("--ready-fd", type=int)
    args = parser.parse_args(arguments)
    from sabotd.agent.process import run_agent
    from sabotd.logs import configure_logging

    configure_logging(args.log_level, args.log_format, process=args.id)
    return run_agent(
        agent_id=args.id,
        listen=args.listen,
        coordinator=args.coordinator,
        state_dir=args.state_dir,
        pool_bytes=args.pool_bytes,
        memory_mb=args.memory_mb,
        idle_timeout_s=args.idle_timeout,
        ready_fd=args.ready_fd,
    )
