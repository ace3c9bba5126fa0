"""The base map on disk and what changed since: together always the whole state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foregate.core.records import seal
from foregate.edge import base_map, wire
from foregate.edge.intake import Intake
from foregate.edge.rollout import Checks
from foregate.edge.state import State

MAC_KEY = bytes(32)
VALUE = wire.TokenValue("t", "a" * 32, True, None, (wire.SecretVersion(1, "a" * 64, 1, None),))


def client(index: int) -> str:
    return f"{index:032x}.access"


def entry(_: str, value: wire.TokenValue) -> str:
    return "E" if value.is_enabled else "D"


class Edge:
    def __init__(self, folder: Path) -> None:
        self.maps = folder / "maps"
        self.path = folder / "state.db"
        self.state = State(self.path)
        self.intake = Intake(self.state, Checks(MAC_KEY, frozenset({1}), lambda _: None), entry)
        self.seq = 0

    def put(self, *indexes: int, enabled: bool = True) -> None:
        content = replace(VALUE, is_enabled=enabled).to_wire()
        self.take(*((f"token/{client(index)}", content) for index in indexes))

    def delete(self, *indexes: int) -> None:
        self.take(*((f"token/{client(index)}", None) for index in indexes))

    def take(self, *records: tuple[str, dict[str, object] | None]) -> None:
        first = self.seq + 1
        self.seq += len(records)
        self.intake.take([seal(MAC_KEY, key, first + i, value).to_wire() for i, (key, value) in enumerate(records)])

    def write(self, fold: int) -> base_map.BaseMap:
        base, mac = base_map.write(State(self.path), self.maps, fold, MAC_KEY)
        base_map.adopt(self.state, base, mac)
        return base

    def served(self) -> dict[str, str]:
        """What HAProxy would say, overlay over base."""
        found = base_map.find(self.state, self.maps, MAC_KEY)
        assert found is not None
        tokens = dict(line.split() for line in found.path.read_text().splitlines())
        for client_id, text in self.state.changed_tokens():
            tokens.pop(client_id, None)
            if text is not None:
                tokens[client_id] = text
        return tokens


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def test_base_and_changes_are_the_whole_state(edge: Edge) -> None:
    edge.put(1, 2, 3)
    edge.write(base_map.begin(edge.state))
    assert edge.served() == {client(1): "E", client(2): "E", client(3): "E"}
    assert list(edge.state.changed_tokens()) == []

    edge.delete(1)
    edge.put(2, enabled=False)
    edge.put(4)
    assert edge.served() == {client(2): "D", client(3): "E", client(4): "E"}
    assert len(list(edge.state.changed_tokens())) == 3


def test_what_changes_while_a_base_is_written_stays_marked(edge: Edge) -> None:
    edge.put(*range(1, 11))
    edge.write(base_map.begin(edge.state))
    edge.delete(1)
    fold = base_map.begin(edge.state)
    edge.delete(2)
    edge.put(20)
    edge.write(fold)
    assert [client_id for client_id, _ in edge.state.changed_tokens()] == [client(2), client(20)]
    assert client(1) not in edge.served()
    assert len(edge.served()) == 9


def test_a_crash_before_the_new_base_is_in_force_leaves_the_old_one(edge: Edge) -> None:
    edge.put(1, 2)
    edge.write(base_map.begin(edge.state))
    edge.delete(1)
    base_map.write(edge.state, edge.maps, base_map.begin(edge.state), MAC_KEY)
    edge.put(3)
    assert edge.served() == {client(2): "E", client(3): "E"}


@pytest.mark.parametrize("damage", ["torn", "flipped", "older", "gone"])
def test_a_base_that_is_not_whole_is_not_served(edge: Edge, damage: str) -> None:
    edge.put(1, 2)
    old = edge.write(base_map.begin(edge.state)).path.read_bytes()
    edge.delete(1)
    path = edge.write(base_map.begin(edge.state)).path
    match damage:
        case "torn":
            path.write_bytes(path.read_bytes()[:-1])
        case "flipped":
            path.write_bytes(path.read_bytes().replace(b" E", b" e"))
        case "older":
            path.write_bytes(old)
        case _:
            path.unlink()
    assert base_map.find(edge.state, edge.maps, MAC_KEY) is None


def test_a_damaged_entry_is_left_out_and_made_anew_from_its_record(edge: Edge) -> None:
    edge.put(1, 2)
    with edge.state.transaction():
        edge.state._connection.execute("UPDATE records SET entry = 'X' WHERE key = ?", (f"token/{client(1)}",))
    base = edge.write(base_map.begin(edge.state))
    assert base.damaged == (client(1),)
    assert base_map.repair(edge.state, base.damaged, MAC_KEY, entry) == 0
    assert edge.served() == {client(1): "E", client(2): "E"}


def test_a_damaged_record_is_forgotten_and_asked_for_again(edge: Edge) -> None:
    edge.put(1, 2)
    with edge.state.transaction():
        edge.state._connection.execute("UPDATE records SET entry = 'X', wire = x'00' WHERE key GLOB '*1.access'")
    base = edge.write(base_map.begin(edge.state))
    assert base_map.repair(edge.state, base.damaged, MAC_KEY, entry) == 1
    assert edge.served() == {client(2): "E"}
    assert edge.state.number("cursor") == 0
