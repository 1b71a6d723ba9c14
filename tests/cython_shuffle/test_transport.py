"""Actions and their errors over a real endpoint; tokens, TLS, addresses that cannot be."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from cython_shuffle.transport import ClientPool, FlightEndpoint, Security, call_action, close_shared_clients
from sabot.errors import InternalError, JobError, ShuffleError, Span, SqlError


@pytest.fixture
def endpoint(tmp_path):
    endpoint = FlightEndpoint(f"grpc+unix://{tmp_path}/e.sock", {"upper": bytes.upper}, name="e")
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def clients():
    pool = ClientPool()
    yield pool
    pool.close()


def test_actions_answer(endpoint, clients):
    endpoint.register_action("size", lambda body: str(len(body)).encode())
    assert clients.call_action(endpoint.location, "upper", b"abc") == b"ABC"
    assert clients.call_action(endpoint.location, "size", bytes(5 << 20)) == str(5 << 20).encode()
    assert clients.call_action(endpoint.location, "upper", b"") == b""


def test_shared_clients(endpoint):
    assert call_action(endpoint.location, "upper", b"abc", 5.0) == b"ABC"
    close_shared_clients()
    assert call_action(endpoint.location, "upper", b"abc", 5.0) == b"ABC"
    close_shared_clients()


def test_errors_travel_whole_and_long(endpoint, clients):
    text = "select " + "x" * 20_000

    def fail(body):
        raise SqlError(f"column {'ü' * 9000!r} is not there", span=Span(7, 9), text=text, hint="h", sqlstate="42703")

    endpoint.register_action("fail", fail)
    with pytest.raises(SqlError, match="is not there") as caught:
        clients.call_action(endpoint.location, "fail", b"")
    assert (caught.value.span, caught.value.text, caught.value.hint) == (Span(7, 9), text, "h")
    assert caught.value.sqlstate == "42703"


def test_error_classes_and_retryable(endpoint, clients):
    def fail(body):
        raise JobError("job 'a' is busy", retryable=True)

    endpoint.register_action("fail", fail)
    with pytest.raises(JobError, match="busy") as caught:
        clients.call_action(endpoint.location, "fail", b"")
    assert caught.value.retryable


def test_a_bug_in_a_handler_is_an_internal_error(endpoint, clients):
    def bug(body):
        raise KeyError("oops")

    endpoint.register_action("bug", bug)
    with pytest.raises(InternalError, match="oops"):
        clients.call_action(endpoint.location, "bug", b"")


def test_unknown_action(endpoint, clients, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(ShuffleError, match="knows no action 'nope'"):
        clients.call_action(endpoint.location, "nope", b"")
    (record,) = caplog.records
    assert record.message == f"endpoint {endpoint.name!r} knows no action 'nope'"


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b'{"job_id": 1}'])
def test_an_action_with_a_body_that_is_none(endpoint, clients, caplog, body):
    endpoint.register_action("cancel", lambda body: bytes(msgspec.json.decode(body, type=list[int])))
    with caplog.at_level(logging.WARNING), pytest.raises(ShuffleError, match="cannot read what action 'cancel'"):
        clients.call_action(endpoint.location, "cancel", body)
    assert len(caplog.records) == 1


def test_nobody_listens(tmp_path, clients):
    with pytest.raises(ShuffleError, match="cannot be reached") as caught:
        clients.call_action(f"grpc+unix://{tmp_path}/none.sock", "upper", b"")
    assert caught.value.retryable


def test_a_slow_action_times_out(endpoint, clients):
    import threading

    release = threading.Event()
    endpoint.register_action("slow", lambda body: b"" if release.wait(30) else b"late")
    with pytest.raises(ShuffleError, match="did not answer in time") as caught:
        clients.call_action(endpoint.location, "slow", b"", 0.05)
    release.set()
    assert caught.value.retryable


def test_an_endpoint_that_comes_back_is_reached_again(tmp_path, clients):
    location = f"grpc+unix://{tmp_path}/back.sock"
    for _ in range(2):
        endpoint = FlightEndpoint(location, {"upper": bytes.upper})
        endpoint.start()
        answer = None
        while answer is None:
            try:
                answer = clients.call_action(location, "upper", b"a")
            except ShuffleError as error:
                if not error.retryable:
                    raise
        assert answer == b"A"
        endpoint.stop()


def test_free_port_and_port_in_use():
    first = FlightEndpoint("grpc://127.0.0.1:0", {"upper": bytes.upper})
    first.start()
    try:
        assert not first.location.endswith(":0")
        with pytest.raises(ShuffleError, match="cannot listen at"):
            FlightEndpoint(first.location).start()
        with pytest.raises(ShuffleError, match="started already"):
            first.start()
    finally:
        first.stop()
    first.stop()


def test_socket_file_is_removed_and_a_stale_one_replaced(tmp_path):
    path = tmp_path / "e.sock"
    for _ in range(2):
        endpoint = FlightEndpoint(f"grpc+unix://{path}")
        endpoint.start()
        assert path.is_socket()
        endpoint.stop()
        assert not path.exists()


@pytest.mark.parametrize(
    ("path", "reason"), [("/" + "x" * 120, "longer than 107"), ("/not/there/e.sock", "is not there")]
)
def test_socket_paths_that_cannot_be(path, reason):
    with pytest.raises(ShuffleError, match=reason):
        FlightEndpoint(f"grpc+unix://{path}").start()


def test_malformed_location():
    with pytest.raises(ShuffleError, match="cannot listen"):
        FlightEndpoint("nonsense").start()


def test_token_and_tls(security):
    endpoint = FlightEndpoint("grpc+tls://localhost:0", {"upper": bytes.upper}, security=security)
    endpoint.start()
    wrong = ClientPool(Security(token="guess", root_certificates=security.root_certificates))
    try:
        assert endpoint.clients.call_action(endpoint.location, "upper", b"a") == b"A"
        with pytest.raises(ShuffleError, match="token is missing or wrong"):
            wrong.call_action(endpoint.location, "upper", b"a")
        assert "s3cret" not in repr(security)
    finally:
        wrong.close()
        endpoint.stop()


def test_start_and_stop_leak_no_descriptors(tmp_path):
    def cycle():
        endpoint = FlightEndpoint(f"grpc+unix://{tmp_path}/e.sock", {"upper": bytes.upper})
        endpoint.start()
        endpoint.clients.call_action(endpoint.location, "upper", b"a")
        endpoint.stop()
        return len(list(Path("/proc/self/fd").iterdir()))

    # gRPC opens some for the process at first use
    counts = [cycle() for _ in range(8)]
    assert max(counts[4:]) <= counts[3]
