"""Strangers between machines: refused with a line on both sides, while running jobs go on."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

from cython_shuffle.frames import Barrier
from cython_shuffle.transport import ClientPool, FlightEndpoint, Security
from cython_shuffle.transport_security import tell_distrust
from sabot.errors import ConfigError, ShuffleError
from tests.support.cutting_proxy import CuttingProxy
from tests.support.shuffle_io import edge, locations, next_frame, rows

TLS_FOLDER = Path(__file__).parents[1] / "support" / "tls"
STRANGER = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def running(make_agent, security):
    """Give a function that proves that a job between two agents over TLS goes on."""
    up, down = (make_agent(n, location="grpc+tls://127.0.0.1:0", security=security, compression="zstd") for n in "ab")
    info = edge("e", "FORWARD", 1, 1)
    where = locations(info, up.location, down.location)
    for agent in (up, down):
        agent.manager.register_shuffle("mv:j", 1, info, where)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    epochs = iter(range(1, 100))

    def goes_on():
        writer.write(rows(0, 100))
        barrier = Barrier(next(epochs))
        writer.barrier(barrier)
        assert next_frame(channel).batch.equals(rows(0, 100))
        assert next_frame(channel).barrier == barrier

    goes_on()
    goes_on.location = up.location
    goes_on.port = int(up.location.rpartition(":")[2])
    yield goes_on
    goes_on()


def call(location, security):
    pool = ClientPool(security)
    try:
        return pool.call_action(location, "nope", b"")
    finally:
        pool.close()


@pytest.mark.parametrize("token", [None, "guess", "s3cret2"])
def test_a_wrong_token(running, security, token, caplog):
    guess = Security(token, root_certificates=security.root_certificates)
    with caplog.at_level(logging.WARNING), pytest.raises(ShuffleError, match="token is missing or wrong") as caught:
        call(running.location, guess)
    assert not caught.value.retryable
    assert "\n" not in caught.value.message
    assert [r.message for r in caplog.records] == ["endpoint 'a' refused a call: the agent's token is missing or wrong"]
    pool = ClientPool(guess)
    with pytest.raises(ShuffleError, match="token is missing or wrong"):
        pool.open_stream(running.location, b"")
    pool.close()


def test_a_certificate_that_nobody_vouches_for(running, security, caplog):
    pool = ClientPool(Security("s3cret"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(ShuffleError, match=r"no TLS with peer at .*self-signed") as caught:
                pool.open_stream(running.location, b"")
            assert not caught.value.retryable
            assert "\n" not in caught.value.message
    pool.close()
    # the endpoint's side: once, however often it is tried, and without the token having been sent
    (record,) = caplog.records
    assert re.fullmatch(r"endpoint 'a' is not trusted by a caller: '.*self-signed.*'", record.message)


def test_what_says_that_it_trusts_us_not_is_quoted(running, caplog):
    with caplog.at_level(logging.WARNING):
        tell_distrust(running.location, "a\nline ü " + "x" * 5000)
    (record,) = caplog.records
    assert record.message.startswith(r"endpoint 'a' is not trusted by a caller: 'a\\nline \\xfc x")
    assert len(record.message) < 300
    running()


def test_a_certificate_of_another_name(security):
    endpoint = FlightEndpoint("grpc+tls://0.0.0.0:0", security=security)
    endpoint.start()
    port = endpoint.location.rpartition(":")[2]
    try:
        with pytest.raises(ShuffleError, match="knows no action"):
            call(f"grpc+tls://127.0.0.1:{port}", security)
        with pytest.raises(ShuffleError, match=r"peer at 'grpc\+tls://127\.0\.0\.2"):
            call(f"grpc+tls://127.0.0.2:{port}", security)
    finally:
        endpoint.stop()


def test_plain_text_to_a_tls_port(running):
    with pytest.raises(ShuffleError, match="cannot be reached") as caught:
        call(f"grpc://127.0.0.1:{running.port}", Security("s3cret"))
    assert "does it speak TLS" in caught.value.hint


def test_tls_to_a_plain_port(make_agent, security):
    plain = make_agent("plain", location="grpc://127.0.0.1:0")
    with pytest.raises(ShuffleError, match="no TLS with peer"):
        call(plain.location.replace("grpc://", "grpc+tls://"), security)


def test_bytes_of_a_stranger(running, capfd):
    for data in (STRANGER, bytes(4096), b"\x16\x03\x01" + b"\xff" * 300):
        capfd.readouterr()
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        running()
        # gRPC's own line: the bytes never reach us
        said = [line for line in capfd.readouterr().err.splitlines() if "absl::InitializeLog" not in line]
        assert len(said) == 1, said
        assert "Handshake failed" in said[0]


@pytest.mark.parametrize("ticket", [b"", b"\xff\xfe", b"\x90", bytes(100)])
def test_a_ticket_that_is_none(running, security, ticket, caplog):
    pool = ClientPool(security)
    with caplog.at_level(logging.WARNING), pytest.raises(ShuffleError, match=r"\(ticket\) that cannot be read"):
        pool.open_stream(running.location, ticket)
    pool.close()
    (record,) = caplog.records
    assert record.message.startswith("endpoint 'a' refused a stream: a message (ticket) that cannot be read")


def put(client, descriptor, options):
    writer, _ = client.do_put(descriptor, pa.schema([("a", pa.int32())]), options=options)
    writer.done_writing()
    writer.close()


OTHER_CALLS = {
    "list_flights": lambda c, _, options: list(c.list_flights(options=options)),
    "list_actions": lambda c, _, options: c.list_actions(options=options),
    "get_flight_info": lambda c, descriptor, options: c.get_flight_info(descriptor, options=options),
    "get_schema": lambda c, descriptor, options: c.get_schema(descriptor, options=options),
    "do_put": put,
    "do_exchange": lambda c, descriptor, options: c.do_exchange(descriptor, options=options)[1].read_chunk(),
}


@pytest.mark.parametrize("name", OTHER_CALLS)
def test_other_calls_of_flight(running, security, caplog, name):
    client = flight.FlightClient(running.location, tls_root_certs=security.root_certificates)
    told = (flight.FlightServerError, pa.ArrowException)  # the latter by get_schema
    with caplog.at_level(logging.WARNING), pytest.raises(told, match=f"takes no call '{name}'"):
        OTHER_CALLS[name](client, flight.FlightDescriptor.for_path("x"), security.call_options())
    client.close()
    (record,) = caplog.records
    assert record.message == f"endpoint 'a' takes no call '{name}'"


@pytest.mark.parametrize(
    ("location", "given", "missing"),
    [
        ("grpc://0.0.0.0:0", Security("t"), "TLS"),
        ("grpc://192.0.2.1:1", Security(), "token"),
        ("grpc+tls://agent.example:1", Security(), "token"),
        ("grpc://agent.example:1", Security("t"), "TLS"),
    ],
)
def test_off_this_machine_it_takes_both(location, given, missing):
    with pytest.raises(ShuffleError, match=f"off this machine and has no {missing}"):
        FlightEndpoint(location, security=given).start()
    with pytest.raises(ShuffleError, match=f"off this machine and has no {missing}"):
        call(location, given)


def test_an_endpoint_without_its_certificate():
    with pytest.raises(ShuffleError, match="has no certificate"):
        FlightEndpoint("grpc+tls://127.0.0.1:0", security=Security("t")).start()


def test_security_from_files(tmp_path, security):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    (tmp_path / "other").write_text("no certificate")
    pem = TLS_FOLDER / "certificate.pem"
    files = {"certificate": pem, "private_key": TLS_FOLDER / "key.pem", "root_certificates": pem}
    assert Security.from_files(token=token, **files) == security
    with pytest.raises(ConfigError, match=r"cannot read .*nope"):
        Security.from_files(token=tmp_path / "nope", **files)
    with pytest.raises(ConfigError, match="no PEM"):
        Security.from_files(token=token, **files | {"certificate": tmp_path / "other"})
    for text in ("\n", "a\nb", "ü"):
        token.write_text(text)
        with pytest.raises(ConfigError, match="no line of printable ASCII"):
            Security.from_files(token=token, **files)


def bytes_on_the_wire(make_agent, compression):
    """Send the same rows from an agent of that setting to one without, through a proxy that counts."""
    up = make_agent(f"up {compression}", location="grpc://127.0.0.1:0", compression=compression)
    down = make_agent(f"down {compression}", location="grpc://127.0.0.1:0")
    proxy = CuttingProxy(int(up.location.rpartition(":")[2]))
    info = edge("e", "HASH", 1, 1)
    up.manager.register_shuffle("mv:j", 1, info, locations(info, up.location, down.location))
    proxied = f"grpc://127.0.0.1:{proxy.port}"
    down.manager.register_shuffle("mv:j", 1, info, locations(info, proxied, down.location))
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    writer.write(rows(0, 10_000))
    writer.barrier(Barrier(1))
    assert next_frame(channel).batch.equals(rows(0, 10_000))
    for agent in (down, up):
        agent.manager.unregister("mv:j", 1)
        agent.endpoint.clients.close()
    proxy.stop()
    return proxy.bytes_from_server


def test_each_side_compresses_what_it_sends(make_agent):
    plain = bytes_on_the_wire(make_agent, "none")
    assert plain > rows(0, 10_000).nbytes
    for compression in ("lz4", "zstd"):
        assert bytes_on_the_wire(make_agent, compression) < 0.7 * plain


def test_compressions(tmp_path):
    with pytest.raises(ShuffleError, match="'gzip' is not known"):
        FlightEndpoint("grpc://127.0.0.1:0", compression="gzip")
    assert FlightEndpoint("grpc://127.0.0.1:0", compression="lz4").compression == "lz4"
    assert FlightEndpoint("grpc://127.0.0.1:0").compression is None
    assert FlightEndpoint(f"grpc+unix://{tmp_path}/s", compression="lz4").compression is None
