"""What Kafka sources and sinks share: librdkafka's settings out of WITH options, and how the cluster does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from sabot.errors import ConnectorError, SqlError
from sabotd.connectors.base import OptionSpec

log = logging.getLogger(__name__)

_PREFIX: Final = "properties."
_SECRETS: Final = (
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
)
_REFUSED: Final = {
    # these would run what a statement names: a library, a shell command
    "plugin.library.paths": "it loads code into the daemon",
    "ssl.engine.location": "it loads code into the daemon",
    "ssl.providers": "it loads code into the daemon",
    "sasl.kerberos.kinit.cmd": "it runs a command in the daemon",
    "enable.partition.eof": "the source needs it as it is",
    "enable.auto.commit": "the position is kept in the daemon",
    "enable.auto.offset.store": "the position is kept in the daemon",
    "log_level": "logs go to the daemon's log",
}
_AUTHENTICATION: Final = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM}  # noqa: SLF001
)
_FORBIDDEN: Final = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
_UNREACHABLE: Final = frozenset(
    {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._SSL, KafkaError._TIMED_OUT}  # noqa: SLF001
)
_CERTAIN_AFTER: Final = 3
"""So many refusals of our credentials in a row are not a broker that is just starting."""

CLIENT_OPTIONS: dict[str, OptionSpec] = {
    "topic": OptionSpec("str", required=True, doc="the topic"),
    _PREFIX + "bootstrap.servers": OptionSpec("str", doc="host:port of some brokers, by comma"),
    _PREFIX + "bootstrap.server": OptionSpec("str", doc="the same as properties.bootstrap.servers"),
    **{_PREFIX + name: OptionSpec("str", secret=True, doc=f"librdkafka's {name}") for name in _SECRETS},
    _PREFIX: OptionSpec("str", prefix=True, doc="any setting of librdkafka"),
}


def client_config(options: Mapping[str, str]) -> dict[str, str | int]:
    """Return librdkafka's configuration: the ``properties.*`` of `options` over our defaults.

    Raises
    ------
    SqlError
        No bootstrap servers, or a setting that a statement may not make.
    """
    given = {key.removeprefix(_PREFIX): value for key, value in options.items() if key.startswith(_PREFIX)}
    servers = given.pop("bootstrap.server", None) or given.get("bootstrap.servers")
    if not servers:
        msg = "option 'properties.bootstrap.servers' is missing"
        raise SqlError(msg, hint="give host:port of a broker, as in properties.bootstrap.servers = 'localhost:9092'")
    for name in given:
        if reason := _REFUSED.get(name):
            msg = f"option '{_PREFIX}{name}' is not allowed"
            raise SqlError(msg, hint=reason, sqlstate="42501")
        if name.endswith("_cb") or name in {"logger", "on_commit", "on_delivery", "default.topic.config"}:
            msg = f"option '{_PREFIX}{name}' is not known"
            raise SqlError(msg)
    return {
        "client.id": "sabot",
        # librdkafka tries a bootstrap server again after half of this, however long the outage
        "reconnect.backoff.ms": "1000",
        "reconnect.backoff.max.ms": "5000",
        # a broker that closes an idle connection is no news
        "log.connection.close": "false",
        **given,
        "bootstrap.servers": servers,
        "log_level": 3,
    }


def setting_error(problem: KafkaException | ValueError | TypeError) -> SqlError:
    """Return the error for a setting that librdkafka refused."""
    text = str(problem)
    if isinstance(problem, KafkaException) and isinstance(problem.args[0], KafkaError):
        text = problem.args[0].str()
    return SqlError(
        f"kafka: {text[:1].lower()}{text[1:].rstrip('.')}", hint="properties.* are the settings of librdkafka"
    )


class ClusterHealth:
    """How the cluster does, as its clients hear it; callbacks come from any thread."""

    def __init__(self, servers: str, topic: str) -> None:
        self.servers = servers
        self.topic = topic
        self.failure: ConnectorError | None = None
        self.was_reached = False
        self._state = ""
        self._refusals = 0
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """One line about what is wrong, empty when nothing is."""
        return self._state

    def fine(self) -> None:
        """Take note that the cluster answered."""
        with self._lock:
            self._refusals = 0
            self.was_reached = True
            if self._state:
                log.info("kafka topic %s: %s answers again", self.topic, self.servers)
                self._state = ""

    def on_error(self, error: KafkaError) -> None:
        """Judge an error: transient (shows in `state`) or final (`failure`). librdkafka's ``error_cb``."""
        code = error.code()
        with self._lock:
            if code in _AUTHENTICATION:
                self._refusals += 1
                self._set(f"authentication at {self.servers} refused: {error.str()}")
                if self._refusals >= _CERTAIN_AFTER:
                    self._fail(f"authentication at {self.servers} refused: {error.str()}", "28000")
            elif code in _FORBIDDEN:
                self._fail(f"no permission for topic {self.topic!r} at {self.servers}", "42501")
            elif code == KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._set(f"topic {self.topic!r} does not exist at {self.servers}, retrying")
            elif code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                self._fail(
                    f"records of topic {self.topic!r} were deleted before they were read: {error.str()}",
                    hint="retention is shorter than the source is behind; properties.auto.offset.reset = 'earliest' "
                    "goes on with what is left",
                )
            elif error.fatal():
                self._fail(f"topic {self.topic!r}: {error.str()}")
            elif code in _UNREACHABLE:
                # a client under way hears of single brokers; the reason stays if we know it
                if not self._refusals and "unreachable" not in self._state:
                    why = "certificate not accepted, " if code == KafkaError._SSL else ""  # noqa: SLF001
                    self._set(f"broker unreachable at {self.servers}, {why}retrying")
            else:
                self._set(f"{error.str()}, retrying")

    def on_exception(self, problem: BaseException) -> None:
        """Judge what a request failed with."""
        if isinstance(problem, KafkaException) and isinstance(problem.args[0], KafkaError):
            self.on_error(problem.args[0])
        else:
            raise problem

    def check(self) -> None:
        """Raise the failure if there is one."""
        if self.failure is not None:
            raise self.failure

    def _set(self, state: str) -> None:
        if state != self._state:
            log.warning("kafka topic %s: %s", self.topic, state)
        self._state = state

    def _fail(self, message: str, sqlstate: str | None = None, hint: str | None = None) -> None:
        self._state = message
        if self.failure is None:
            self.failure = ConnectorError(message, sqlstate=sqlstate, hint=hint)


class RareLogger(logging.Logger):
    """librdkafka's own log lines, at most one in ten seconds, so that an outage does not fill the log."""

    def __init__(self) -> None:
        super().__init__(f"{__name__}.librdkafka")
        self.parent = log
        self._next_s = 0.0

    def handle(self, record: logging.LogRecord) -> None:
        """Pass `record` on unless one went by just before."""
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + 10
            super().handle(record)
