"""Real servers for the tests: each starts in a folder of its own on free loopback ports and is stopped by its pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KAFKA_JARS = ROOT / ".cache" / "kafka"
HOW = "run `make services` (scripts/test-services.sh), which brings what is missing"


class ServerError(RuntimeError):
    """A server is not installed or does not start; the message says how to get it."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str, *places: str) -> str:
    """Return the path of the program `name`, on PATH or in one of `places` (globs, the highest version first)."""
    if found := shutil.which(name):
        return found
    for place in ("/usr/sbin", "/usr/local/sbin", *places):
        for folder in sorted(Path("/").glob(place.lstrip("/")), reverse=True):
            if (folder / name).exists():
                return str(folder / name)
    raise ServerError(f"{name!r} is not installed: {HOW}")


class Server:
    """One process with its log; `ready` is asked until it says yes."""

    name = "server"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], ready: Callable[[], bool], *, timeout_s: float = 60) -> None:
        """Start `command` and wait until it is ready; it ends with the thread that called, at the latest."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [find_program("setpriv"), "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise ServerError(
                    f"{self.name} does not start ({' '.join(command[-2:])}); its log ends:\n{tail}\n{HOW}"
                )
            time.sleep(0.02)

    def run(self, command: Sequence[str]) -> None:
        """Run a helper of the server to its end."""
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        if done.returncode:
            raise ServerError(f"{command[0]} of {self.name} failed: {done.stdout}{done.stderr}\n{HOW}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the process and wait for its end; idempotent."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class PostgresServer(Server):
    """PostgreSQL with the superuser ``sabot`` without password; not durable."""

    name = "postgresql"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.socket_dir = folder
        self.dsn = f"postgresql://sabot@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Make the cluster and start it."""
        self._start(make=True)

    def restart(self) -> None:
        """Start again on the same port with the same data."""
        self._start(make=False)

    def _start(self, *, make: bool) -> None:
        bin_dir = Path(find_program("initdb", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")).resolve().parent
        prefix: list[str] = []
        if os.geteuid() == 0:  # it refuses root
            names = {p.pw_name for p in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            entry = pwd.getpwnam(user)
            prefix = [
                find_program("setpriv"),
                f"--reuid={entry.pw_uid}",
                f"--regid={entry.pw_gid}",
                "--clear-groups",
            ]
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            for parent in self.folder.parents:  # pytest's folders are closed to others
                if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                    parent.chmod(parent.stat().st_mode | 0o011)
        data = self.folder / "data"
        if make:
            init = [str(bin_dir / "initdb"), "-D", str(data), "-U", "sabot", "-A", "trust", "-N", "-E", "UTF8"]
            self.run([*prefix, *init])
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.socket_dir,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 100,
        }
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        is_ready = str(bin_dir / "pg_isready")

        def ready() -> bool:
            asked = [is_ready, "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "sabot", "-d", "postgres"]
            return subprocess.run(asked, check=False).returncode == 0

        self.launch([*prefix, str(bin_dir / "postgres"), "-D", str(data), *flags], ready)

    def new_database(self) -> str:
        """Make a database; return its URL. It goes with the server."""
        name = f"sabot_{os.urandom(4).hex()}"
        psql = find_program("psql", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
        self.run([psql, "-q", "-d", self.dsn, "-c", f"CREATE DATABASE {name}"])
        return self.dsn.rsplit("/", 1)[0] + f"/{name}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop fast (SIGINT): clients are cut off."""
        super().stop(how)


class MosquittoServer(Server):
    """Mosquitto with three listeners: open (`port`), with a user (`auth_port`), and TLS (`tls_port`)."""

    name = "mosquitto"
    username = "sabot"
    password = "s3cret"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port, self.auth_port, self.tls_port = free_port(), free_port(), free_port()
        self.ca_file = folder / "ca.pem"
        self._program = ""

    @property
    def url(self) -> str:
        """The address of the open listener."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Write the configuration, the user and a certificate; start."""
        self._program = find_program("mosquitto")
        folder = self.folder
        passwords = folder / "passwords"
        passwords.touch(0o600)
        self.run([find_program("mosquitto_passwd"), "-b", str(passwords), self.username, self.password])
        self._make_certificate()
        user = pwd.getpwuid(os.geteuid()).pw_name
        (folder / "mosquitto.conf").write_text(
            f"""user {user}
per_listener_settings true
persistence false
max_queued_messages 0
max_inflight_messages 200
listener {self.port} 127.0.0.1
allow_anonymous true
listener {self.auth_port} 127.0.0.1
allow_anonymous false
password_file {passwords}
listener {self.tls_port} 127.0.0.1
allow_anonymous true
cafile {self.ca_file}
certfile {folder / "server.pem"}
keyfile {folder / "server.key"}
"""
        )
        self.restart()

    def restart(self) -> None:
        """Start again on the same ports (what it held is lost)."""
        self.launch([self._program, "-c", str(self.folder / "mosquitto.conf")], lambda: _listens(self.tls_port))

    def _make_certificate(self) -> None:
        openssl, folder = find_program("openssl"), self.folder
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self.run([openssl, "req", "-x509", *new_key, "-subj", "/CN=sabot test ca", "-days", "2"]
                 + ["-keyout", str(folder / "ca.key"), "-out", str(self.ca_file)])  # fmt: skip
        self.run([openssl, "req", *new_key, "-subj", "/CN=localhost"]
                 + ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.csr")])  # fmt: skip
        (folder / "san.cnf").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.run([openssl, "x509", "-req", "-in", str(folder / "server.csr"), "-CA", str(self.ca_file)]
                 + ["-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "2"]
                 + ["-extfile", str(folder / "san.cnf"), "-out", str(folder / "server.pem")])  # fmt: skip


class KafkaServer(Server):
    """Apache Kafka in KRaft mode, one node; an open listener (`port`) and one with SASL PLAIN (`sasl_port`)."""

    name = "kafka"
    username = "sabot"
    password = "s3cret"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port, self.sasl_port, self._controller = free_port(), free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.sasl_bootstrap = f"127.0.0.1:{self.sasl_port}"
        self._java: list[str] = []

    def start(self) -> None:
        """Format the storage and start the broker."""
        if not any(KAFKA_JARS.glob("kafka_2*.jar")):
            raise ServerError(f"the jars of Apache Kafka are not in {KAFKA_JARS}: {HOW}")
        self._java = [
            find_program("java", "/usr/lib/jvm/*/bin"),
            *("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
            *("-cp", f"{KAFKA_JARS}/*"),
        ]
        config = self.folder / "server.properties"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        options = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},SASL://{self.sasl_bootstrap}"
            f",CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},SASL://{self.sasl_bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f'{module} required user_{self.username}="{self.password}";',
            "log.dirs": self.folder / "data",
            "num.partitions": 1,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "log.cleaner.dedupe.buffer.size": 4 << 20,
        }
        for prefix in ("offsets.topic.", "transaction.state.log.", "share.coordinator.state.topic."):
            options |= {f"{prefix}replication.factor": 1, f"{prefix}num.partitions": 1, f"{prefix}min.isr": 1}
        del options["offsets.topic.min.isr"]
        config.write_text("".join(f"{key}={value}\n" for key, value in options.items()))
        format_storage = ["kafka.tools.StorageTool", "format", "-t", "c2Fib3QtdGVzdC1rYWZrYQ", "-c", str(config)]
        self.run([*self._java, *format_storage])
        self.restart()

    def restart(self) -> None:
        """Start again on the same ports with the same data."""
        self.launch([*self._java, "kafka.Kafka", str(self.folder / "server.properties")], self._answers)

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if not _listens(self.port):
            return False
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 100})
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False
