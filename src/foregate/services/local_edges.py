"""The edges that one `foregate up` runs on this machine: the home's own, and further ones, each with a home below the
folder `edges` and ports that follow the first one's. Those join over the feed port as edges of other machines do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foregate.services.home import Home
from foregate.services.instances import Instance, instance_name, kind_of
from foregate.services.process import lock_path
from foregate.services.settings import Settings

_FOLDER = "edges"


@dataclass(frozen=True, slots=True)
class LocalEdge:
    """An edge of this machine: its name among the processes, its home and its settings."""

    name: str
    home: Home
    settings: Settings

    @property
    def lock(self) -> Path:
        """The lock that its agent holds."""
        return lock_path(self.home, "edge")

    @property
    def has_identity(self) -> bool:
        """Whether it has what its agent shows itself with: a key, written before the facts, or a membership."""
        return self.home.membership.exists() or (self.home.facts.exists() and self.home.edge_key.exists())


def local_edges(settings: Settings, home: Home, wanted: Sequence[Instance]) -> list[LocalEdge]:
    """The edges among `wanted`, the home's own first."""
    numbers = [instance.number for instance in wanted if instance.kind == "edge"]
    return [_local_edge(settings, home, number) for number in numbers]


def with_feed_port(settings: Settings, wanted: Sequence[Instance]) -> Settings:
    """The control plane's settings: with a feed port, on loopback unless they say more, where edges are to join."""
    if settings.feed_bind or not any(instance.kind == "edge" and instance.number > 1 for instance in wanted):
        return settings
    return replace(settings, feed_bind="127.0.0.1")


def found_edges(settings: Settings, home: Home) -> list[LocalEdge]:
    """The home's own edge and all that ever joined from below it, whether they run or not."""
    folders = sorted((home.root / _FOLDER).glob("edge-*"))
    numbers = [int(number) for folder in folders if (number := folder.name.partition("-")[2]).isdecimal()]
    return [_local_edge(settings, home, number) for number in (1, *numbers)]


def lock_of(home: Home, name: str) -> Path:
    """The lock of the process `name` of this home, a further edge's too."""
    if kind_of(name) == "edge" and name != "edge":
        return lock_path(_home_of(home, name), "edge")
    return lock_path(home, name)


def _local_edge(settings: Settings, home: Home, number: int) -> LocalEdge:
    name = instance_name("edge", number)
    if number == 1:
        return LocalEdge(name, home, settings)
    own = replace(
        settings,
        home=_home_of(home, name).root,
        http_port=settings.http_port + number - 1,
        https_port=settings.https_port + number - 1,
        feed_bind="",
    )
    return LocalEdge(name, Home(own.home), own)


def _home_of(home: Home, name: str) -> Home:
    return Home(home.root / _FOLDER / name)
