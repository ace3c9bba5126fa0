"""A real Foregate on a real Kafka, over TLS and SCRAM, set up as an operator does it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.kafka import ADMIN, Broker
from harness.ports import free_ports
from harness.processes import kill_all
from harness.product import Foregate


def set_up_kafka(foregate: Foregate, broker: Broker, *options: str) -> None:
    """`foregate kafka setup` for the home."""
    admin = ("--admin", ADMIN, "--admin-password-file", "-")
    done = foregate.run("kafka", "setup", *admin, *options, input=broker.admin_password.encode(), seconds=60)
    assert done.returncode == 0, done.stderr.decode()


@contextmanager
def foregate_on_kafka(broker: Broker, **settings: str) -> Iterator[Foregate]:
    """A home with the CA and the logins of the broker; `start` starts it. Stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="foregate-"))
    home = folder / "home"
    foregate = Foregate(home, *free_ports(3), {"FOREGATE_KAFKA": broker.tls_servers, **settings})
    try:
        (home / "kafka").mkdir(parents=True)
        home.chmod(0o700)
        shutil.copy(broker.ca_file, home / "kafka" / "ca.pem")
        set_up_kafka(foregate, broker)
        yield foregate
        if foregate.supervisor is not None:
            assert foregate.stop() == 0
    finally:
        kill_all(home)
        shutil.rmtree(folder, ignore_errors=True)
