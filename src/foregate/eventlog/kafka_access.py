"""How to reach Kafka, and what its errors mean in sentences. Knows librdkafka's settings, knows no topic.

`confluent-kafka` is imported here and in the other `kafka_*` modules when they are used, so that nobody who has not
asked for Kafka needs it or waits for it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.secrets import Secret

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

SCRAM_MECHANISM = "SCRAM-SHA-512"
# A call that waits for Kafka gives up then; whoever made it tries again.
CALL_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
# Clients that were cut off together are back within some seconds of the broker.
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Login:
    """A user of Kafka."""

    user: str
    password: Secret


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where Kafka is and as whom to go there. `servers` is `host:port,host:port`. Without a login the connection is in
    the clear and nobody's; with one it is TLS and SCRAM. `ca_file` holds what the brokers' certificates are signed by;
    None trusts the CAs of this machine."""

    servers: str
    login: Login | None = None
    ca_file: Path | None = None

    @property
    def user(self) -> str:
        """As whom Kafka knows the clients."""
        return self.login.user if self.login else "ANONYMOUS"

    def settings(self, troubles: Complaints, **more: Any) -> dict[str, Any]:
        """librdkafka's settings for one client (`github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md`)."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "client.id": "foregate",
            "socket.connection.setup.timeout.ms": int(_CONNECT_SECONDS * 1000),
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": int(_LONGEST_PAUSE_SECONDS * 1000),
            # Its log would go to the standard error, once a try; what goes wrong is told by whoever uses the client.
            "log_level": 0,
            "error_cb": troubles.note,
        }
        if self.login is not None:
            settings |= {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": SCRAM_MECHANISM,
                "sasl.username": self.login.user,
                "sasl.password": self.login.password.reveal(),
            }
            if self.ca_file is not None:
                settings["ssl.ca.location"] = str(self.ca_file)
        return settings | more


@dataclass(slots=True)
class Complaints:
    """What a client said last about its connections: a call that times out does not say why. Safe between threads."""

    _last: KafkaError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, error: KafkaError) -> None:
        """librdkafka's `error_cb`."""
        from confluent_kafka import KafkaError

        with self._lock:
            # That all brokers are down follows the reason for it, and says less.
            if error.code() != KafkaError._ALL_BROKERS_DOWN or self._last is None:
                self._last = error

    def take(self) -> KafkaError | None:
        """The last one, which is forgotten by that."""
        with self._lock:
            last, self._last = self._last, None
            return last


def require_client() -> None:
    """Raises ForegateError(UNAVAILABLE) where `confluent-kafka` is not installed."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        message = "Kafka needs the package confluent-kafka; run: pip install 'foregate[kafka]'"
        raise ForegateError(ErrorCode.UNAVAILABLE, message) from None


def unavailable(
    access: KafkaAccess, error: KafkaError, *, topic: str = "", complaints: Complaints | None = None
) -> ForegateError:
    """The error as a sentence that says what to do. `topic`: with which one it happened."""
    from confluent_kafka import KafkaError

    # That nothing came in time has a reason which the connection knows.
    if error.code() in (KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT) and complaints:
        error = complaints.take() or error
    return ForegateError(ErrorCode.UNAVAILABLE, _sentence(access, error, topic), detail=str(error))


def _sentence(access: KafkaAccess, error: KafkaError, topic: str) -> str:
    from confluent_kafka import KafkaError

    match error.code():
        case KafkaError.UNKNOWN_TOPIC_OR_PART | KafkaError._UNKNOWN_TOPIC | KafkaError._UNKNOWN_PARTITION:
            return f"Kafka has no topic {topic}; make it with: foregate kafka setup"
        case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
            return f"Kafka does not let the user {access.user} use {topic}; see: foregate kafka setup"
        case KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            return f"Kafka does not let the user {access.user} do this; use one that may set up topics and users."
        case KafkaError._AUTHENTICATION | KafkaError.SASL_AUTHENTICATION_FAILED:
            return f"Kafka does not take the password of the user {access.user}; see: foregate kafka setup"
        case KafkaError._SSL:
            return f"The certificate of Kafka at {access.servers} cannot be verified; is its CA in kafka/ca.pem?"
        case KafkaError.MSG_SIZE_TOO_LARGE:
            return f"The topic {topic} does not take messages of this size; see: foregate kafka setup"
        case KafkaError.NOT_ENOUGH_REPLICAS | KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND:
            return f"Too few brokers of Kafka hold the topic {topic} now to keep what is written; start the others."
        case KafkaError.LEADER_NOT_AVAILABLE | KafkaError.NOT_LEADER_FOR_PARTITION:
            return f"A partition of Kafka's topic {topic} has no leader now; start the broker that holds it."
        case KafkaError._FENCED | KafkaError.PRODUCER_FENCED | KafkaError.INVALID_PRODUCER_EPOCH:
            return "Another process publishes now; this one has lost its turn."
        case KafkaError._TRANSPORT | KafkaError._RESOLVE | KafkaError._ALL_BROKERS_DOWN | KafkaError._TIMED_OUT:
            return f"Kafka at {access.servers} does not answer; start it, or check FOREGATE_KAFKA."
        case KafkaError._MSG_TIMED_OUT:
            return f"Kafka at {access.servers} did not take a message in time; is it overloaded, or down?"
        case _:
            return f"Kafka at {access.servers} cannot be used now ({error.str()})."
