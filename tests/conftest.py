"""Settings of the whole suite, and the servers that it starts once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from harness.kafka import Broker, running_broker
from harness.kafka_jars import KafkaMissing

# No test fails for a slow machine: a deadline is Hypothesis's own idea of how long an example may take.
settings.register_profile("foregate", deadline=None)
settings.load_profile("foregate")


@pytest.fixture(scope="session")
def shared_kafka() -> Iterator[Broker]:
    """A real Kafka for the session. Skips with a sentence where none can be run; with CI set that fails."""
    try:
        with running_broker() as broker:
            yield broker
    except KafkaMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def kafka(shared_kafka: Broker) -> Broker:
    """The same one, without topics, users or access rules of earlier tests."""
    shared_kafka.clear()
    return shared_kafka
