"""The door's life: start, many clients, clients that vanish, stop; nothing stays behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

import sabot
from sabot.errors import ClientError, ConfigError
from sabot.flight_sql import flight_sql_pb2 as pb
from sabot.flight_sql import messages
from sabotd.serve import flight_sessions, flight_statements
from sabotd.serve.flight_sql import FlightSqlServer
from tests.support.duckdb_engine import DuckdbEngine

ROOT = Path(__file__).resolve().parents[3]


def test_location_tells_the_port(flight_server: FlightSqlServer) -> None:
    assert flight_server.location.startswith("grpc://127.0.0.1:")
    assert not flight_server.location.endswith(":0")


@pytest.mark.parametrize(
    "location", ["tcp://127.0.0.1:1", "127.0.0.1:80", "grpc://127.0.0.1", "grpc://h:x", "grpc+unix://"]
)
def test_location_that_is_none(flight_engine: DuckdbEngine, location: str) -> None:
    with pytest.raises(ConfigError, match="not understood"):
        FlightSqlServer(flight_engine, location)


def test_off_loopback_needs_token_and_tls(flight_engine: DuckdbEngine) -> None:
    with pytest.raises(ConfigError, match="off loopback"):
        FlightSqlServer(flight_engine, "grpc://0.0.0.0:0")
    with pytest.raises(ConfigError, match="off loopback"):
        FlightSqlServer(flight_engine, "grpc://192.0.2.1:0", token="t")
    with pytest.raises(ConfigError, match="do not agree"):
        FlightSqlServer(flight_engine, "grpc+tls://127.0.0.1:0")


def test_port_in_use(flight_engine: DuckdbEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = FlightSqlServer(flight_engine, f"grpc://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match="address already in use"):
            server.start()
        server.stop()


def test_socket_in_use(flight_engine: DuckdbEngine, tmp_path: Path) -> None:
    first = FlightSqlServer(flight_engine, f"grpc+unix://{tmp_path}/s")
    first.start()
    with pytest.raises(ConfigError, match="in use"):
        FlightSqlServer(flight_engine, first.location).start()
    first.stop()
    assert not (tmp_path / "s").exists()
    # what a killed server left does not stand in the way
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    first.start()
    with sabot.connect(first.location) as db:
        assert db.sql("SELECT 1").fetchall() == [(1,)]
    first.stop()


def test_token(flight_engine: DuckdbEngine) -> None:
    server = FlightSqlServer(flight_engine, "grpc://127.0.0.1:0", token="secret")
    server.start()
    with pytest.raises(ClientError, match="credentials"):
        sabot.connect(server.location)
    with pytest.raises(ClientError, match="credentials"):
        sabot.connect(server.location, token="guess")
    with sabot.connect(server.location, token="secret") as db:
        assert db.sql("SELECT 1").fetchall() == [(1,)]
    server.stop()


def test_tls(flight_engine: DuckdbEngine, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    pair = certificate.read_bytes(), key.read_bytes()
    # off loopback: with both it may
    server = FlightSqlServer(flight_engine, "grpc+tls://0.0.0.0:0", token="secret", tls=pair)
    server.start()
    url = server.location.replace("0.0.0.0", "localhost")
    with sabot.connect(url, token="secret", tls_root_certs=pair[0]) as db:
        assert db.sql("SELECT 1").fetchall() == [(1,)]
    with pytest.raises(ClientError):
        sabot.connect(url, token="secret", timeout_s=1)
    server.stop()


def test_killed_client_frees_everything(
    flight_server: FlightSqlServer, flight_engine: DuckdbEngine, flight_db: sabot.Connection
) -> None:
    flight_db.sql("CREATE TABLE t AS SELECT 1 AS a")
    script = """
        import sys, sabot
        flight_db = sabot.connect(sys.argv[1])
        stream = flight_db.subscribe("t")
        next(stream)
        print("reading", flush=True)
        next(stream)
    """
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), flight_server.location],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"reading\n"
    assert flight_engine.open_results == 1
    client.kill()
    client.communicate()
    assert flight_engine.wait_idle()


def test_killed_client_stops_its_statement(
    flight_server: FlightSqlServer, flight_engine: DuckdbEngine, flight_db: sabot.Connection
) -> None:
    script = "import sys, sabot; sabot.connect(sys.argv[1]).sql('FLUSH')"
    client = subprocess.Popen([sys.executable, "-c", script, flight_server.location], cwd=ROOT)
    assert flight_engine.flushing.wait(20)
    client.kill()
    client.wait()
    with flight_engine.changed:
        assert flight_engine.changed.wait_for(lambda: flight_engine.cancelled_flushes == 1, 10)


def test_stop_ends_what_runs(flight_engine: DuckdbEngine) -> None:
    server = FlightSqlServer(flight_engine, "grpc://127.0.0.1:0")
    server.start()
    errors: list[BaseException] = []

    def client(work: Callable[[sabot.Connection], object]) -> None:
        try:
            with sabot.connect(server.location) as db:
                work(db)
        except ClientError as exc:
            errors.append(exc)

    with sabot.connect(server.location) as db:
        db.sql("CREATE TABLE t AS SELECT 1 AS a")
        reading = threading.Event()

        def subscribe(other: sabot.Connection) -> None:
            stream = other.subscribe("t")
            next(stream)
            reading.set()
            next(stream)

        threads = [
            threading.Thread(target=client, args=(subscribe,)),
            threading.Thread(target=client, args=(lambda other: other.sql("FLUSH"),)),
        ]
        for thread in threads:
            thread.start()
        assert reading.wait(20)
        assert flight_engine.flushing.wait(20)
        server.stop()
        assert server.wait(0)
        for thread in threads:
            thread.join()
    assert len(errors) == 2
    assert flight_engine.open_results == 0
    assert flight_engine.open_sessions == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_stop_does_not_wait_for_a_client_that_does_not_read(
    flight_engine: DuckdbEngine, tmp_path: Path, kind: str
) -> None:
    server = FlightSqlServer(flight_engine, "grpc://127.0.0.1:0" if kind == "tcp" else f"grpc+unix://{tmp_path}/s")
    server.start()
    with sabot.connect(server.location) as db:
        result = db.sql("SELECT i, i + 1 AS j FROM range(3000000) r(i)")
        assert result.fetchone() == (0, 1)
        server.stop(grace_s=0.1)
        assert flight_engine.open_results == 0
        assert flight_engine.open_sessions == 0
        with pytest.raises(ClientError, match="lost the connection"):
            result.arrow()


def test_nothing_stays_behind(flight_engine: DuckdbEngine) -> None:
    def round_trip() -> None:
        server = FlightSqlServer(flight_engine, "grpc://127.0.0.1:0")
        server.start()
        with sabot.connect(server.location) as db:
            db.sql("SELECT 1").arrow()
            db.sql("SELECT ?", [1]).fetchall()
            db.sql("SELECT * FROM range(100000)")
        server.stop()

    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    round_trip()  # gRPC keeps a pool of its own from here on
    before = held()
    for _ in range(5):
        round_trip()
    after = held()
    assert after[0] == before[0]
    assert after[1] <= before[1] + 2
    assert (flight_engine.open_results, flight_engine.open_sessions) == (0, 0)


def test_many_clients_at_once(flight_server: FlightSqlServer, flight_db: sabot.Connection) -> None:
    flight_db.sql("CREATE TABLE t (a BIGINT)")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with sabot.connect(flight_server.location) as mine:
                for i in range(20):
                    mine.sql("INSERT INTO t VALUES (?)", [number * 100 + i])
                    assert mine.sql("SELECT ? AS a", [i]).fetchall() == [(i,)]
        except BaseException as exc:  # noqa: BLE001
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert flight_db.sql("SELECT count(*), count(DISTINCT a) FROM t").fetchall() == [(160, 160)]


def test_one_session_from_many_threads(flight_db: sabot.Connection) -> None:
    answers: list[list[tuple[object, ...]]] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(flight_db.sql("SELECT ?", [n]).fetchall()))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a[0][0] for a in answers) == list(range(12))


def _client(server: FlightSqlServer) -> flight.FlightClient:
    return flight.connect(server.location)


def _info(client: flight.FlightClient, sql: str) -> flight.FlightInfo:
    command = messages.pack(pb.CommandStatementQuery(query=sql))
    return client.get_flight_info(flight.FlightDescriptor.for_command(command))


def test_results_that_nobody_fetches_expire(
    flight_server: FlightSqlServer, flight_engine: DuckdbEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_statements, "UNCLAIMED_S", 0.0)
    with _client(flight_server) as client:
        info = _info(client, "SELECT 1")
        assert flight_engine.wait_idle()
        with pytest.raises(flight.FlightServerError, match="ticket is not valid"):
            client.do_get(info.endpoints[0].ticket)


def test_a_ticket_is_good_once(flight_server: FlightSqlServer) -> None:
    with _client(flight_server) as client:
        info = _info(client, "SELECT 1")
        assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == 1
        with pytest.raises(flight.FlightServerError, match="ticket is not valid"):
            client.do_get(info.endpoints[0].ticket)


@pytest.mark.parametrize("by_query", [True, False])
def test_cancel_by_flight_info(flight_server: FlightSqlServer, flight_engine: DuckdbEngine, by_query: bool) -> None:
    with _client(flight_server) as client:
        flight_engine.con.execute("CREATE TABLE t AS SELECT 1 AS a")
        info = _info(client, "SUBSCRIBE t")
        stream = client.do_get(info.endpoints[0].ticket)
        stream.read_chunk()
        if by_query:
            body = messages.pack(pb.ActionCancelQueryRequest(info=info.serialize()))
            (answer,) = client.do_action(flight.Action(messages.CANCEL_QUERY, body))
            result = messages.unpack_as(pb.ActionCancelQueryResult, answer.body.to_pybytes())
            assert result.result == pb.ActionCancelQueryResult.CANCEL_RESULT_CANCELLED
        else:
            body = pb.CancelFlightInfoRequest(info=info.serialize()).SerializeToString()
            (answer,) = client.do_action(flight.Action(messages.CANCEL_FLIGHT_INFO, body))
            assert pb.CancelFlightInfoResult.FromString(answer.body.to_pybytes()).status == 1
        with pytest.raises(flight.FlightCancelledError, match="cancelled"):
            stream.read_chunk()
        assert flight_engine.wait_idle()
        again = pb.CancelFlightInfoRequest(info=info.serialize()).SerializeToString()
        with pytest.raises(flight.FlightServerError, match="no such query"):
            list(client.do_action(flight.Action(messages.CANCEL_FLIGHT_INFO, again)))


def test_idle_sessions_expire(
    flight_server: FlightSqlServer, flight_engine: DuckdbEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_sessions, "PEER_IDLE_S", 0.0)
    with _client(flight_server) as client:
        info = _info(client, "SELECT 1")
        client.do_get(info.endpoints[0].ticket).read_all()
        with flight_engine.changed:
            assert flight_engine.changed.wait_for(lambda: flight_engine.open_sessions == 0, 10)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (b"\xff\xff", "not a Flight SQL message"),
        (b"", "'' is not supported"),
        (messages.pack(pb.CommandStatementUpdate(query="SELECT 1")), "not supported with GetFlightInfo"),
        (messages.pack(pb.CommandPreparedStatementQuery(prepared_statement_handle=b"x")), "does not exist"),
    ],
)
def test_commands_that_are_none(flight_server: FlightSqlServer, command: bytes, text: str) -> None:
    with _client(flight_server) as client, pytest.raises(flight.FlightServerError, match=text):
        client.get_flight_info(flight.FlightDescriptor.for_command(command))


def test_metadata_commands_answer_by_their_schema(flight_server: FlightSqlServer) -> None:
    commands = [
        pb.CommandGetSqlInfo(),
        pb.CommandGetSqlInfo(info=[0, 77777]),
        pb.CommandGetXdbcTypeInfo(),
        pb.CommandGetXdbcTypeInfo(data_type=12),
        pb.CommandGetCatalogs(),
        pb.CommandGetDbSchemas(db_schema_filter_pattern="p%"),
        pb.CommandGetTables(include_schema=True, table_types=["VIEW"]),
        pb.CommandGetTableTypes(),
        pb.CommandGetPrimaryKeys(table="t"),
        pb.CommandGetExportedKeys(table="t"),
        pb.CommandGetImportedKeys(table="t"),
        pb.CommandGetCrossReference(pk_table="t", fk_table="u"),
    ]
    counts = []
    with _client(flight_server) as client:
        for command in commands:
            descriptor = flight.FlightDescriptor.for_command(messages.pack(command))
            info = client.get_flight_info(descriptor)
            table = client.do_get(info.endpoints[0].ticket).read_all()
            assert table.schema == info.schema == client.get_schema(descriptor).schema
            table.validate(full=True)
            counts.append(table.num_rows)
        actions = {action.type for action in client.list_actions()}
        assert list(client.list_flights()) == []
    assert counts == [25, 1, 14, 1, 1, 1, 0, 6, 0, 0, 0, 0]
    assert {"CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "CloseSession"} <= actions


def test_updates_by_do_put(flight_server: FlightSqlServer, flight_engine: DuckdbEngine) -> None:
    flight_engine.con.execute("CREATE TABLE t (a BIGINT)")
    command = messages.pack(pb.CommandStatementUpdate(query="INSERT INTO t VALUES (1), (2)"))
    with _client(flight_server) as client:
        writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), pa.schema([]))
        writer.done_writing()
        assert pb.DoPutUpdateResult.FromString(reader.read().to_pybytes()).record_count == 2
        writer.close()
