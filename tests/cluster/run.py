"""A cluster over hosts of its own, with faults: PostgreSQL on one, sabotd on one, agents on three.

    python -m tests.cluster.run [--rounds 20] [--seed 1] [--own-agents 0]

Each round inserts rows while one fault happens at a random moment: an agent killed, stopped or cut off, PostgreSQL
restarted, sabotd killed. After a FLUSH every view must equal DuckDB's answer over all rows so far; and unless sabotd
has agents of its own, its kill must not have made any job begin again. All links between hosts carry TLS and a token.
"""

from __future__ import annotations

import argparse
import os
import pwd
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa

import sabot
from tests.cluster.hosts import Network, Process
from tests.support.servers import find_program

AGENTS = ("h1", "h2", "h3")
PORT = 7300
VIEWS = {
    "per_key": "SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM t GROUP BY k",
    "overall": "SELECT count(*) AS keys, sum(n) AS n, sum(s) AS s FROM per_key",
    "pairs": "SELECT a.k, a.v AS v, d.name FROM t AS a JOIN d ON a.k = d.k WHERE a.v % 7 = 0",
}
FAULTS = ("kill agent", "stop agent", "cut agent off", "restart PostgreSQL", "kill sabotd", "none")


def certificates(folder: Path, addresses: list[str]) -> None:
    """Make an authority and one certificate for all hosts."""
    ssl = find_program("openssl")
    names = ",".join(f"IP:{a}" for a in [*addresses, "127.0.0.1"])
    (folder / "san.cnf").write_text(f"subjectAltName={names}\n")

    def run(*words: str) -> None:
        subprocess.run([ssl, *words], check=True, capture_output=True, cwd=folder)

    ask, sign = "req -newkey rsa:2048 -nodes", "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -extfile san.cnf"
    for command in (
        f"{ask} -x509 -keyout ca.key -out ca.pem -days 2 -subj /CN=sabot-test",
        f"{ask} -keyout host.key -out host.csr -subj /CN=sabot-host",
        f"{sign} -in host.csr -days 2 -out host.pem",
    ):
        run(*command.split())
    (folder / "token").write_text(os.urandom(16).hex())


class Cluster:
    """All processes of the test."""

    def __init__(self, network: Network, folder: Path, own_agents: int) -> None:
        self.network, self.folder = network, folder
        self.own_agents = own_agents
        address = network.addresses
        self.database = f"postgresql://sabot@{address['pg']}:5432/postgres"
        self.location = f"grpc+unix://{folder}/client.sock"
        self._postgres_options: list[str] = []
        secrets = {
            "token_file": folder / "token",
            "certificate_file": folder / "host.pem",
            "key_file": folder / "host.key",
            "ca_file": folder / "ca.pem",
        }
        config = folder / "sabotd.toml"
        lines = [f'[control]\ndatabase = "{self.database}"', f"[agents]\ncount = {own_agents}"]
        lines += [f'listen = "grpc+tls://{address["ctl"]}:{PORT}"']
        lines += [f'{key} = "{path}"' for key, path in secrets.items()]
        config.write_text("\n".join(lines) + "\n")
        arguments = [f"--{key.replace('_', '-')}={path}" for key, path in secrets.items()]
        python = [sys.executable, "-m", "sabotd"]
        self.postgres = self._make_postgres()
        self.sabotd = Process(
            network,
            "ctl",
            [*python, "--config", str(config), "--data", str(folder / "data"), "--listen", self.location],
            folder / "sabotd.log",
        )
        self.agents = {
            host: Process(
                network,
                host,
                [*python, "agent", "--join", self.database, "--id", host]
                + ["--listen", f"grpc+tls://{address[host]}:{PORT}", "--state-dir", str(folder / host), *arguments],
                folder / f"{host}.log",
            )
            for host in AGENTS
        }

    def _make_postgres(self) -> Process:
        bin_dir = Path(find_program("initdb", "/usr/lib/postgresql/*/bin")).resolve().parent
        user = pwd.getpwnam("postgres")
        drop = [find_program("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        home = self.folder / "pg"
        home.mkdir()
        os.chown(home, user.pw_uid, user.pw_gid)
        data = home / "data"
        init = [str(bin_dir / "initdb"), "-D", str(data), "-U", "sabot", "-A", "trust", "-N"]
        subprocess.run([*drop, *init], check=True, capture_output=True, cwd=home)
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.77.0.0/24 trust\n")
        options = ["-c", "listen_addresses=*", "-c", f"unix_socket_directories={home}", "-c", "fsync=off"]
        command = [str(bin_dir / "postgres"), "-D", str(data), *options]
        return Process(self.network, "pg", command, self.folder / "postgres.log", drop)

    def start(self) -> None:
        """Start everything, and wait until all agents are up."""
        self.postgres.start()
        self.start_sabotd()
        for agent in self.agents.values():
            agent.start()
        self.await_agents()

    def start_sabotd(self) -> None:
        """Start sabotd; tries again while PostgreSQL is not there yet."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.sabotd.start()
            while not self.sabotd.ended() and time.monotonic() < deadline:
                try:
                    sabot.connect(self.location, timeout_s=5).close()
                except sabot.SabotError:
                    time.sleep(0.2)
                else:
                    return
        raise SystemExit("sabotd does not come up; see " + str(self.folder / "sabotd.log"))

    def await_agents(self) -> None:
        """Start agents that have ended (killed, or fenced), and wait until all are up."""
        deadline = time.monotonic() + 60
        with sabot.connect(self.location) as db:
            while time.monotonic() < deadline:
                for agent in self.agents.values():
                    if agent.ended():
                        agent.start()
                rows = db.sql("SELECT count(*) FROM sabot_catalog.agents WHERE state = 'UP'").fetchall()
                if rows == [(len(AGENTS) + self.own_agents + 1,)]:
                    return
                time.sleep(0.3)
        raise SystemExit(f"agents do not come up; see {self.folder}")

    def fault(self, kind: str, rng: random.Random) -> str:
        """Make a fault happen, and end it; returns what it was."""
        host = rng.choice(AGENTS)
        match kind:
            case "kill agent":
                self.agents[host].end(signal.SIGKILL)
            case "stop agent":
                self.agents[host].send(signal.SIGSTOP)
                time.sleep(rng.uniform(1, 8))
                self.agents[host].send(signal.SIGCONT)
            case "cut agent off":
                self.network.link(host, up=False)
                time.sleep(rng.uniform(1, 8))
                self.network.link(host, up=True)
            case "restart PostgreSQL":
                self.postgres.end(signal.SIGINT)
                time.sleep(rng.uniform(0, 2))
                self.postgres.start()
                return kind
            case "kill sabotd":
                before = self.deploys()
                self.sabotd.end(signal.SIGKILL)
                self.start_sabotd()
                if not self.own_agents and self.deploys() != before:
                    raise SystemExit("a job began again because sabotd was killed")
                return kind
            case "none":
                return kind
        return f"{kind} {host}"

    def deploys(self) -> int:
        """Return how many attempts there have been."""
        with sabot.connect(self.location) as db:
            query = "SELECT count(*) FROM sabot_catalog.workflows WHERE name = 'deploy'"
            return int(db.sql(query).fetchall()[0][0])

    def stop(self) -> None:
        """End everything."""
        for agent in self.agents.values():
            agent.send(signal.SIGCONT)
        self.sabotd.end()
        for agent in self.agents.values():
            agent.end()
        self.postgres.end(signal.SIGINT)


def insert(location: str, rows: pa.Table) -> None:
    """Insert rows; tries again while sabotd is away, and knows whether an insert had arrived by its batch number."""
    batch = rows.column("batch")[0].as_py()
    values = ", ".join(
        f"({k}, {v}, {batch})" for k, v in zip(rows["k"].to_pylist(), rows["v"].to_pylist(), strict=True)
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            with sabot.connect(location, timeout_s=5) as db:
                if db.sql(f"SELECT count(*) FROM t WHERE batch = {batch}").fetchall() == [(0,)]:
                    db.execute(f"INSERT INTO t VALUES {values}").close()
                return
        except sabot.SabotError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def check(location: str, truth: duckdb.DuckDBPyConnection) -> None:
    """Flush and compare every view."""
    with sabot.connect(location) as db:
        db.execute("FLUSH").close()
        for name, query in VIEWS.items():
            ours = Counter(tuple(r) for r in db.sql(f"SELECT * FROM {name}").fetchall())
            theirs = Counter(truth.execute(query).fetchall())
            if ours != theirs:
                missing, extra = theirs - ours, ours - theirs
                raise SystemExit(f"view {name} is wrong: missing {list(missing)[:3]}, too many {list(extra)[:3]}")


def main() -> None:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--own-agents", type=int, default=0, help="agents of sabotd's own beside those on hosts")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    truth = duckdb.connect()
    truth.execute("CREATE TABLE t (k INT, v INT, batch INT)")
    truth.execute("CREATE TABLE d AS SELECT i AS k, 'n' || i AS name FROM range(50) r(i)")
    truth.execute(f"CREATE VIEW per_key AS {VIEWS['per_key']}")
    with tempfile.TemporaryDirectory(prefix="sabot-cluster-") as name, Network(("pg", "ctl", *AGENTS)) as network:
        folder = Path(name)
        folder.chmod(0o755)
        certificates(folder, list(network.addresses.values()))
        cluster = Cluster(network, folder, args.own_agents)
        try:
            cluster.start()
            with sabot.connect(cluster.location) as db:
                for statement in (
                    "SET parallelism = 4",
                    "CREATE TABLE t (k INT, v INT, batch INT)",
                    "CREATE TABLE d (k INT, name VARCHAR)",
                    "INSERT INTO d SELECT i, 'n' || i FROM range(50) r(i)",
                    *(f"CREATE MATERIALIZED VIEW {n} AS {q}" for n, q in VIEWS.items()),
                ):
                    db.execute(statement).close()
            for number in range(args.rounds):
                play(cluster, truth, rng, number)
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                print(f"---- {log.name}", *log.read_text(errors="replace").splitlines()[-25:], sep="\n")
            raise
        finally:
            cluster.stop()
    print(f"{args.rounds} rounds passed, seed {args.seed}")


def play(cluster: Cluster, truth: duckdb.DuckDBPyConnection, rng: random.Random, number: int) -> None:
    """Play one round."""
    begin = time.monotonic()
    kind = FAULTS[number % len(FAULTS)] if number < len(FAULTS) else rng.choice(FAULTS)
    done: list[str] = []
    problems: list[SystemExit] = []
    moment = rng.uniform(0, 1.5)

    def disturb() -> None:
        time.sleep(moment)
        try:
            done.append(cluster.fault(kind, rng))
        except SystemExit as problem:
            problems.append(problem)

    fault = threading.Thread(target=disturb)
    fault.start()
    for part in range(6):
        count = rng.randrange(50, 400)
        rows = pa.table(
            {
                "k": [rng.randrange(60) for _ in range(count)],
                "v": [rng.randrange(1000) for _ in range(count)],
                "batch": [number * 10 + part] * count,
            }
        )
        insert(cluster.location, rows)
        truth.register("new_rows", rows)
        truth.execute("INSERT INTO t SELECT * FROM new_rows")
        time.sleep(rng.uniform(0, 0.3))
    fault.join()
    if problems:
        raise problems[0]
    check(cluster.location, truth)
    cluster.await_agents()
    print(f"round {number + 1}: {done[0]}: equal to DuckDB's after {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
