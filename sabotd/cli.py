"""The command line of the daemon and its agents."""

from __future__ import annotations

import argparse
import importlib.abc
import os
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
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # a refused handshake is told by us, not by it too
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
    parser = argparse.ArgumentParser(
        prog="sabotd agent", description="An agent: runs tasks for a sabotd, here or on another machine."
    )
    parser.add_argument("--join", metavar="URL", help="the cluster's control database: postgresql://USER@HOST/NAME")
    parser.add_argument(
        "--listen", required=True, metavar="LOCATION", help="where the daemon and agents reach this one"
    )
    parser.add_argument("--id", help="its name in the cluster; the host's name if not given")
    parser.add_argument(
        "--slots",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="its size beside other agents', by tasks of an operator; the cores if not given",
    )
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="shown in SHOW AGENTS")
    parser.add_argument("--state-dir", type=Path, default=Path("sabot-agent"), help="folder of the tasks' state")
    parser.add_argument("--pool-bytes", type=int, default=256 << 20, help="rows in motion that it may hold")
    parser.add_argument("--memory-mb", type=int, help="memory for the tasks' state; half the machine's if not given")
    parser.add_argument("--spill-bytes", type=int, default=0, help="disk of one task (default: what is free)")
    parser.add_argument("--idle-timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--token-file", default="", help="the cluster's shared token")
    parser.add_argument("--certificate-file", default="", help="certificate chain, PEM")
    parser.add_argument("--key-file", default="", help="private key, PEM")
    parser.add_argument("--ca-file", default="", help="authorities to trust, PEM")
    parser.add_argument(
        "--compression", default="none", choices=("none", "lz4", "zstd"), help="of rows that go out to other machines"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", default="text", choices=("text", "json"))
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)  # of agents that a sabotd starts itself
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if (args.join is None) == (args.coordinator is None):
        parser.error("--join URL is needed")
    if args.slots < 1:
        parser.error("--slots has to be at least 1")
    if bad := [label for label in args.label if not label.partition("=")[0] or "=" not in label]:
        parser.error(f"--label {bad[0]!r} is not KEY=VALUE")
    from sabotd.agent.join import run_joined_agent
    from sabotd.agent.process import run_agent
    from sabotd.logs import configure_logging
    from sabotd.security import load_security, require_for

    security = load_security(args.token_file, args.certificate_file, args.key_file, args.ca_file)
    require_for(args.listen, security)
    configure_logging(args.log_level, args.log_format, process=args.id or "agent")
    if args.join is None:
        return run_agent(
            agent_id=args.id,
            listen=args.listen,
            coordinator=args.coordinator,
            state_dir=args.state_dir,
            pool_bytes=args.pool_bytes,
            memory_mb=args.memory_mb or 4096,
            spill_bytes=args.spill_bytes,
            idle_timeout_s=args.idle_timeout,
            ready_fd=args.ready_fd,
            security=security,
            compression=args.compression,
        )
    return run_joined_agent(
        url=args.join,
        agent_id=args.id,
        listen=args.listen,
        state_dir=args.state_dir,
        slots=args.slots,
        labels=dict(label.partition("=")[::2] for label in args.label),
        pool_bytes=args.pool_bytes,
        memory_mb=args.memory_mb,
        spill_bytes=args.spill_bytes,
        idle_timeout_s=args.idle_timeout,
        security=security,
        compression=args.compression,
    )
