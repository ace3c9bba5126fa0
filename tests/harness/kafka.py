"""A real Apache Kafka (KRaft, one node) on loopback, in a folder of its own: for the tests, and for `make kafka`.

It listens twice: in the clear, where everybody may do everything, and with TLS and SCRAM, where only the user `admin`
may, and others what access rules (ACLs) say.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
)

from foregate.edge.certificates import Certificates
from harness.kafka_jars import find_jars, find_java
from harness.ports import free_ports
from harness.waiting import until

ADMIN = "admin"
_START_SECONDS = 90  # 5 s are usual on an idle machine
# Starts in half the time of the defaults, which are for servers that run for months.
_JAVA_OPTIONS = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://localhost:{port},SASL_SSL://localhost:{tls_port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{admin}
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.cleaner.backoff.ms=500
"""


@dataclass(slots=True)
class Broker:
    """One broker. `servers` is the listener in the clear, `tls_servers` the other; `ca_file` signs its certificate."""

    folder: Path
    port: int
    tls_port: int
    controller_port: int
    java_options: tuple[str, ...] = _JAVA_OPTIONS
    admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        """The setting FOREGATE_KAFKA for the listener in the clear."""
        return f"localhost:{self.port}"

    @property
    def tls_servers(self) -> str:
        """The same with TLS and SCRAM."""
        return f"localhost:{self.tls_port}"

    @property
    def ca_file(self) -> Path:
        """What clients of the TLS listener trust."""
        return self.folder / "ca" / "ca.pem"

    def format(self) -> None:
        """Make its folder: certificate, properties, storage with the user `admin`."""
        certificates = self.folder / "certificates"
        for made in (self.folder / "own", certificates):
            made.mkdir(parents=True, exist_ok=True)
        Certificates(self.folder / "ca", certificates, self.folder / "own").ensure(["localhost"], datetime.now(UTC))
        (leaf,) = certificates.glob("*.pem")
        shutil.copy(leaf, self.folder / "broker.pem")
        ports = {"port": self.port, "tls_port": self.tls_port, "controller_port": self.controller_port}
        self._properties.write_text(_PROPERTIES.format(folder=self.folder, admin=ADMIN, **ports))
        scram = f"SCRAM-SHA-512=[name={ADMIN},password={self.admin_password}]"
        storage = ("format", "--standalone", "-t", uuid.uuid4().hex[:22], "-c", str(self._properties), "-S", scram)
        done = subprocess.run(self._java("kafka.tools.StorageTool", *storage), capture_output=True, cwd=self.folder)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()[-2000:]

    def start(self) -> None:
        """Start it and wait until it answers on both listeners."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # so that Ctrl-C reaches whoever started it, who then ends it
            )
        until(self._answers, _START_SECONDS, "Kafka listens", every=0.1)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Have it stand still, its connections open."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        self._send(signal.SIGCONT)

    def make_topics(self, settings: dict[str, dict[str, str]], *, partitions: int = 1) -> None:
        """Topics with their settings, by name."""
        client = AdminClient({"bootstrap.servers": self.servers})
        new = [NewTopic(name, partitions, 1, config=config) for name, config in settings.items()]
        for made in client.create_topics(new).values():
            made.result(10)

    def clear(self) -> None:
        """Remove all topics, users and access rules, but for the user `admin`."""
        client = AdminClient({"bootstrap.servers": self.servers})
        topics = [name for name in client.list_topics(timeout=10).topics if not name.startswith("__")]
        anything: Any = None
        rules = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            anything,
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        users = client.describe_user_scram_credentials().result(10)
        deletions = [UserScramCredentialDeletion(u, ScramMechanism.SCRAM_SHA_512) for u in users if u != ADMIN]
        done = [
            *(client.delete_topics(topics).values() if topics else ()),
            *client.delete_acls([rules]).values(),
            *(client.alter_user_scram_credentials(deletions).values() if deletions else ()),
        ]
        for future in done:
            future.result(10)
        until(lambda: not set(topics) & set(client.list_topics(timeout=10).topics), 10, "the topics are gone")

    @property
    def output(self) -> Path:
        """What it says."""
        return self.folder / "kafka.log"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, program: str, *arguments: str) -> list[str]:
        return [find_java(), *self.java_options, "-cp", f"{find_jars()}/*", program, *arguments]

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"Kafka ended: {self.output.read_text()[-2000:]}")
        for port in (self.port, self.tls_port):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True

    def _send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self._send(signal.SIGCONT)
        self._send(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextmanager
def running_broker(
    *, ports: tuple[int, int, int] | None = None, java_options: tuple[str, ...] = _JAVA_OPTIONS
) -> Iterator[Broker]:
    """A started broker; ended, and its folder removed, whatever happens in between. Raises KafkaMissing."""
    folder = Path(tempfile.mkdtemp(prefix="foregate-kafka-"))
    port, tls_port, controller_port = ports or free_ports(3)
    broker = Broker(folder, port, tls_port, controller_port, java_options)
    try:
        broker.format()
        broker.start()
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """`make kafka`: one for people, until Ctrl-C. Ports 9092 (in the clear), 9093 (TLS and SCRAM) and 9094."""
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 9092
    print("Starting Apache Kafka ...", flush=True)
    with running_broker(ports=(first, first + 1, first + 2)) as broker:
        password = broker.folder / "admin.password"
        password.touch(0o600)
        password.write_text(broker.admin_password)
        print(f"In the clear:   FOREGATE_KAFKA={broker.servers}")
        print(f"TLS and SCRAM:  FOREGATE_KAFKA={broker.tls_servers} FOREGATE_KAFKA_SECURITY=scram")
        print(f"                its CA: {broker.ca_file}   user {ADMIN}, password in {password}")
        print("Then: foregate kafka setup, and foregate up. Ctrl-C ends Kafka and removes what it kept.", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
