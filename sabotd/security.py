"""Reads tokens and certificates from the files that the settings name."""

from __future__ import annotations

from pathlib import Path

from cython_shuffle.transport import Security
from sabot.errors import ConfigError


def read_secret(path: str, what: str) -> bytes | None:
    """Return a file's content; None for an empty path.

    Raises
    ------
    ConfigError
        It cannot be read, or is empty.
    """
    if not path:
        return None
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        msg = f"{what} {path!r} cannot be read: {str(error.strerror).lower()}"
        raise ConfigError(msg) from error
    if not content.strip():
        msg = f"{what} {path!r} is empty"
        raise ConfigError(msg)
    return content


def read_token(path: str) -> str | None:
    """Return the token in a file, without white space around it; None for an empty path."""
    content = read_secret(path, "token file")
    return content.decode().strip() if content is not None else None


def load_security(token_file: str, certificate_file: str, key_file: str, ca_file: str) -> Security:
    """Return what daemon and agents show each other; all paths empty means neither token nor TLS."""
    return Security(
        read_token(token_file),
        read_secret(certificate_file, "certificate"),
        read_secret(key_file, "private key"),
        read_secret(ca_file, "certificate authority"),
    )


def require_for(location: str, security: Security) -> None:
    """Refuse an address off this machine without both token and TLS.

    Raises
    ------
    ConfigError
    """
    if location.startswith("grpc+unix:"):
        return
    host = location.split("://", 1)[1].rsplit(":", 1)[0].strip("[]")
    if host in ("127.0.0.1", "localhost", "::1"):
        return
    if security.token is None or security.certificate is None or security.private_key is None:
        msg = f"{location!r} is reached from other machines: it needs a token and TLS"
        raise ConfigError(msg, hint="set the token_file, certificate_file, key_file and ca_file")
