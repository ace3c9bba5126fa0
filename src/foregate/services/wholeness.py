"""Whether what a home keeps is whole: its keys, its facts, its databases. `foregate up` and `foregate api` ask before
they start, so that a damaged file is one sentence and not a child that dies again and again; `foregate doctor` asks
thoroughly. Changes nothing, and disturbs nothing that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import load as load_master_key
from foregate.core.secrets import API_TOKEN_PREFIX, EDGE_KEY_PREFIX, parse_secret
from foregate.database.damage import find_damage
from foregate.services.home import Home, read_facts, read_private
from foregate.services.settings import Settings

# A start waits a tenth of a second at most for a whole look at a database; a larger one is for the doctor.
_LOOKED_THROUGH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a file of the home, and what to do about it."""

    path: Path
    what: str
    advice: str

    @property
    def sentence(self) -> str:
        """Both."""
        return f"{self.path} {self.what}; {self.advice}."


def require_whole(settings: Settings) -> None:
    """ForegateError(UNAVAILABLE) with a sentence about the first file of the home that is not whole."""
    for fault in find_faults(settings, is_thorough=False):
        raise ForegateError(ErrorCode.UNAVAILABLE, fault.sentence)


def find_faults(settings: Settings, *, is_thorough: bool) -> Iterator[Fault]:
    """The files of the home that are not whole, worst first; none in a home that was never used."""
    home = Home(settings.home)
    yield from _membership(home)
    yield from _master_key(home)
    yield from _facts(home)
    if settings.keeps_files:
        yield from _records(home, is_thorough=is_thorough)
        yield from _telemetry(home, is_thorough=is_thorough)
    yield from _secret(home.admin_token, API_TOKEN_PREFIX)
    yield from _secret(home.edge_key, EDGE_KEY_PREFIX)


def _membership(home: Home) -> Iterator[Fault]:
    if home.membership.exists() or home.expulsion.exists():
        # A control plane in it would make keys, of which its edge knows nothing.
        what = "says that this is the home of an edge of another control plane"
        path = home.membership if home.membership.exists() else home.expulsion
        yield Fault(path, what, "start it with foregate edge, or set FOREGATE_HOME to another folder")


def _master_key(home: Home) -> Iterator[Fault]:
    if home.master_key.exists():
        try:
            load_master_key(home.master_key)
        except ForegateError as error:
            what, _, advice = error.message.removeprefix(f"The master key {home.master_key} ").partition("; ")
            yield Fault(home.master_key, what, advice.removesuffix("."))
    elif home.records_db.exists():
        # Under a new one, no secret in the records would ever fit.
        what = f"is missing, and the records in {home.records_db} are of no use without it"
        yield Fault(home.master_key, what, "put the saved copy back")


def _facts(home: Home) -> Iterator[Fault]:
    try:
        read_facts(home)
    except ForegateError:
        advice = "put the saved copy back, or remove it: it is made anew from the records, and the edge anew with it"
        yield Fault(home.facts, "is damaged", advice)


def _records(home: Home, *, is_thorough: bool) -> Iterator[Fault]:
    path = home.records_db
    if not path.exists() or path.stat().st_size == 0:
        # Made anew, it would know no token of those that the edges let in.
        if home.facts.exists():
            what = "is empty" if path.exists() else "is missing"
            advice = "put the saved copy back, or set FOREGATE_HOME to another folder to begin anew"
            yield Fault(path, f"{what} though this home was in use", advice)
    elif damage := _damage(path, is_thorough=is_thorough):
        advice = f"put the saved copy back and remove {path.name}-wal and {path.name}-shm; the edge goes on meanwhile"
        yield Fault(path, f"is damaged ({damage})", advice)


def _telemetry(home: Home, *, is_thorough: bool) -> Iterator[Fault]:
    path = home.telemetry_db
    if path.exists() and (damage := _damage(path, is_thorough=is_thorough)):
        advice = (
            f"remove {path.name}, {path.name}-wal and {path.name}-shm, or put a saved copy back: without one, events "
            "and last uses begin anew, and tokens work as before"
        )
        yield Fault(path, f"is damaged ({damage})", advice)


def _secret(path: Path, prefix: str) -> Iterator[Fault]:
    if not path.exists():
        return
    try:
        text = read_private(path)
    except ForegateError as error:
        what, _, advice = error.message.removeprefix(f"{path} ").partition("; ")
        yield Fault(path, what, advice)
        return
    try:
        parse_secret(text, prefix)
    except ForegateError:
        yield Fault(path, "is damaged", "remove it: another one is made at the next start")


def _damage(path: Path, *, is_thorough: bool) -> str:
    return find_damage(path, is_thorough=is_thorough or path.stat().st_size <= _LOOKED_THROUGH_BYTES)
