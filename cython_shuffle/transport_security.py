"""What agents on different machines must show each other: a shared token, over TLS."""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import flight

from sabot.errors import ConfigError, ShuffleError

UNIX = "grpc+unix://"
TLS = "grpc+tls://"
DISTRUST = "sabot-distrust"
"""Header of a call that says why its caller does not trust the endpoint's certificate."""
DISTRUST_BYTES = 200
_TELL_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Security:
    """What agents off this machine need: a shared token and TLS; all in PEM. Empty: neither.

    `certificate` and `private_key` are what this agent shows, `root_certificates` what it trusts in others.
    """

    token: str | None = field(default=None, repr=False)
    certificate: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    root_certificates: bytes | None = None

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token and self.token.isascii() and self.token.isprintable()):
            raise ConfigError("the agents' token is no line of printable ASCII")

    @staticmethod
    def from_files(*, token: Path, certificate: Path, private_key: Path, root_certificates: Path) -> Security:
        """Read token and PEM files.

        Raises
        ------
        ConfigError
            A file cannot be read or is no PEM, or the token is no line of printable ASCII.
        """
        parts = []
        for path in (token, certificate, private_key, root_certificates):
            try:
                parts.append(path.read_bytes())
            except OSError as error:
                raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from error
            if path is not token and b"-----BEGIN " not in parts[-1]:
                raise ConfigError(f"{str(path)!r} is no PEM file")
        return Security(parts[0].strip().decode("latin-1"), *parts[1:])

    def call_options(self, timeout_s: float | None = None) -> flight.FlightCallOptions:
        """Return options that carry the token."""
        headers = [(b"authorization", b"Bearer " + self.token.encode())] if self.token else []
        return flight.FlightCallOptions(timeout=timeout_s, headers=headers)

    def check(self, location: str) -> None:
        """Raise ShuffleError if this does not do for `location`: off this machine it takes a token and TLS."""
        host = urlsplit(location).hostname
        if location.startswith(UNIX) or not host:
            return
        if not is_loopback(host) and not (self.token and location.startswith(TLS)):
            raise ShuffleError(
                f"{location!r} is off this machine and has no {'TLS' if self.token else 'token'}",
                hint="between machines agents need grpc+tls:// and a shared token",
            )


PLAIN = Security()


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class CallCheck(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses calls without the token, before anything of theirs is read; hears who does not trust the certificate.

    Parameters
    ----------
    name : str
        The endpoint's, for messages.
    token : str or None
        None: every call passes.
    """

    def __init__(self, name: str, token: str | None) -> None:
        self._name = name
        self._expected = b"Bearer " + token.encode() if token else None

    def start_call(self, info: Any, headers: Mapping[str, list[str]]) -> None:
        given = {k.lower(): v[0] for k, v in headers.items() if v}
        if (why := given.get(DISTRUST)) is not None:
            # anyone can send this: it is quoted, short, and changes nothing
            _log.warning("endpoint %r is not trusted by a caller: %r", self._name, why[:DISTRUST_BYTES])
            raise flight.FlightUnauthenticatedError("noted")
        if self._expected is None:
            return
        if not hmac.compare_digest(given.get("authorization", "").encode(), self._expected):
            _log.warning("endpoint %r refused a call: the agent's token is missing or wrong", self._name)
            raise flight.FlightUnauthenticatedError("the agent's token is missing or wrong")


def tell_distrust(location: str, why: str) -> None:
    """Let the endpoint at `location` know that its certificate is not trusted here: gRPC tells it nothing of that.

    Goes over a connection that trusts anybody, and so carries neither a token nor anything else but `why`.
    """
    client = flight.FlightClient(location, disable_server_verification=True)
    text = why.encode("unicode_escape")[:DISTRUST_BYTES]  # a header is a line of ASCII
    options = flight.FlightCallOptions(timeout=_TELL_S, headers=[(DISTRUST.encode(), text)])
    try:
        list(client.do_action(flight.Action(DISTRUST, b""), options))
    except (flight.FlightError, pa.ArrowException, OSError) as error:
        # its answer to this is an error; so is that of a peer which speaks no TLS at all, or is none of ours
        _log.debug("told %s that it is not trusted: %s", location, error)
    finally:
        client.close()
