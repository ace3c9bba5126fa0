"""A record that the engine cannot take gives way to its predecessor, and only that one."""

from __future__ import annotations

from pathlib import Path

import pytest

from foregate.core.records import seal
from foregate.edge import config_records, wire
from foregate.edge.intake import Intake
from foregate.edge.rollout import Checks
from foregate.edge.state import Note, Row, State

MAC_KEY = bytes(32)


class Edge:
    def __init__(self, folder: Path) -> None:
        self.state = State(folder / "state.db")
        self.intake = Intake(self.state, Checks(MAC_KEY, frozenset({1}), lambda _: None), lambda *_: "")
        self.seq = 0

    def put(self, name: str, domain: str) -> None:
        self.seq += 1
        value = wire.AccountValue(domain, True, ()).to_wire()
        self.intake.take([seal(MAC_KEY, f"account/{name}", self.seq, value).to_wire()])

    def delete(self, name: str) -> None:
        self.seq += 1
        self.intake.take([seal(MAC_KEY, f"account/{name}", self.seq, None).to_wire()])

    def load(self) -> config_records.Loaded:
        return config_records.load(self.state, MAC_KEY)

    def settle(self, loaded: config_records.Loaded, **refused: str) -> None:
        config_records.settle(self.state, loaded, {f"account/{name}": reason for name, reason in refused.items()})

    def domains(self) -> dict[str, str]:
        accounts = config_records.arrange(self.load().newest).accounts
        return {name: value.auth_domain for name, value in accounts.items()}


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    edge = Edge(tmp_path)
    edge.put("a", "one")
    edge.put("b", "one")
    edge.settle(edge.load())
    return edge


def test_what_the_engine_took_is_no_longer_pending(edge: Edge) -> None:
    assert edge.load().pending == {}
    assert edge.domains() == {"a": "one", "b": "one"}


def test_a_refused_record_gives_way_to_its_predecessor(edge: Edge) -> None:
    edge.put("a", "bad")
    edge.put("b", "two")
    edge.put("c", "bad")
    loaded = edge.load()
    assert set(loaded.pending) == {"account/a", "account/b", "account/c"}
    good = config_records.arrange(config_records.with_predecessors(loaded, {"account/a", "account/c"})).accounts
    assert {name: value.auth_domain for name, value in good.items()} == {"a": "one", "b": "two"}

    edge.settle(loaded, a="no engine takes it", c="no engine takes it")
    assert edge.domains() == {"a": "one", "b": "two"}
    assert edge.load().pending == {}
    assert Note("account/a", 3, "no engine takes it") in edge.state.refused()


def test_a_refused_record_is_ignored_when_the_feed_repeats_it(edge: Edge) -> None:
    edge.put("a", "bad")
    edge.settle(edge.load(), a="bad")
    edge.seq -= 1
    edge.put("a", "bad")
    assert edge.domains()["a"] == "one"


def test_a_refused_deletion_leaves_the_record(edge: Edge) -> None:
    edge.delete("a")
    edge.settle(edge.load(), a="still needed")
    assert edge.domains()["a"] == "one"


def test_what_comes_while_the_engine_judges_stays_pending(edge: Edge) -> None:
    edge.put("a", "two")
    loaded = edge.load()
    edge.put("a", "bad")
    edge.settle(loaded)
    loaded = edge.load()
    assert config_records.with_predecessors(loaded, {"account/a"})["account/a"] == wire.AccountValue("two", True, ())
    edge.settle(loaded, a="bad")
    assert edge.domains()["a"] == "two"


def test_what_replaces_a_refused_record_meanwhile_is_not_undone(edge: Edge) -> None:
    edge.put("a", "bad")
    loaded = edge.load()
    edge.put("a", "mended")
    edge.settle(loaded, a="bad")
    assert edge.domains()["a"] == "mended"
    assert config_records.with_predecessors(edge.load(), {"account/a"})["account/a"] == wire.AccountValue(
        "one", True, ()
    )


def test_a_record_damaged_on_disk_is_forgotten_and_asked_for_again(edge: Edge) -> None:
    with edge.state.transaction():
        edge.state.put(Row("account/a", 1, b"{torn"))
    assert edge.domains() == {"b": "one"}
    assert edge.state.number("cursor") == 0
