"""Which processes `foregate up` runs: one of each kind, and more of a kind where a person asks for them.

The first of a kind bears its plain name (`api`), the others a number (`api-2`): in locks, logs, status and output.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("api", "worker", "edge", "echo")
# One machine, for trying out: beyond this the cores are shared, not used.
MOST_OF_A_KIND = 8


@dataclass(frozen=True, slots=True)
class Counts:
    """How many processes of each kind."""

    apis: int = 1
    workers: int = 1
    edges: int = 1


@dataclass(frozen=True, slots=True)
class Instance:
    """One process: the `number`-th (from 1) of its `kind`."""

    kind: str
    number: int = 1

    @property
    def name(self) -> str:
        """What it is called everywhere."""
        return instance_name(self.kind, self.number)


def instance_name(kind: str, number: int) -> str:
    """`api`, `api-2`, `api-3`."""
    return kind if number == 1 else f"{kind}-{number}"


def kind_of(name: str) -> str:
    """The kind of an instance by its name."""
    return name.partition("-")[0]


def instances(counts: Counts) -> tuple[Instance, ...]:
    """All of them, in the order in which a person reads them."""
    of_kind = {"api": counts.apis, "worker": counts.workers, "edge": counts.edges, "echo": 1}
    return tuple(Instance(kind, number) for kind in KINDS for number in range(1, of_kind[kind] + 1))
