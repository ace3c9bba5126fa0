"""Invariant 10: the same policy gives the same answer in the Python reference and in HAProxy.

Every world is drawn from one seed and asked by several connections at once, HTTP/1.1 pipelined and HTTP/2 interleaved,
some by way of a trusted proxy. They live on while the worker is told what to remember, which tokens changed, to fold.
`FOREGATE_SEED` is the first world's seed, `FOREGATE_CASES` the number of requests in all; a failure prints both as they
replay it alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from differential.edge_under_test import EdgeUnderTest, running_edge
from differential.exchange import Answer, PlainClient, StreamClient
from differential.judgement import Event, Expected, differences, expect
from edge_values import client_id
from foregate.access.model import Knowledge, Request
from foregate.access.rules import decide
from foregate.core.clock import utc_now
from foregate.core.decision import Reason
from worlds import ADDRESSES, FAR_ADDRESSES, PROXY, TOKENS, World, change_token, draw_burst, draw_requests, draw_world

FIRST_SEED = int(os.environ.get("FOREGATE_SEED", "20261101"))
CASES = int(os.environ.get("FOREGATE_CASES", "9600"))
CASES_PER_WORLD = 480
LANES = 6
PHASES = 4
# Of what is let through this share is asked again at once, and of all else this share later on.
BURSTS = 0.5
REPEATED = 0.4


@dataclass(frozen=True, slots=True)
class Lane:
    """One client and what it asks, phase by phase. `depth`: how many requests are on the way at once."""

    client: PlainClient | StreamClient
    phases: tuple[list[Request], ...]
    depth: int


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + max(1, CASES // CASES_PER_WORLD)))
async def test_haproxy_gives_the_reference_s_answer_and_reason(seed: int) -> None:
    random = Random(seed)
    world = draw_world(random, utc_now())
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        async with running_edge(world.known, Path(folder)) as edge:
            found = await _ask_everything(random, world, edge)

    assert not found, (
        f"{len(found)} of {CASES_PER_WORLD} cases differ; the first ones:\n"
        + "\n".join(found[:3])
        + (f"\nReplay: FOREGATE_SEED={seed} FOREGATE_CASES={CASES_PER_WORLD} python -m pytest {Path(__file__).name}")
    )


def test_worlds_hold_every_reason_often_enough_to_mean_something() -> None:
    found = Counter[Reason]()
    for seed in range(FIRST_SEED, FIRST_SEED + 10):
        random = Random(seed)
        known = draw_world(random, utc_now()).known
        found.update(decide(request, known, utc_now()).reason for request in draw_requests(random, known, 300))

    # Whether an assertion can be had is not for the rules to say.
    assert {reason for reason, count in found.items() if count >= 10} == set(Reason) - {Reason.ASSERTION_UNAVAILABLE}


async def _ask_everything(random: Random, world: World, edge: EdgeUnderTest) -> list[str]:
    lanes = [_lane(random, world.known, edge.port, number) for number in range(LANES)]
    known = world.known
    asked: list[tuple[Knowledge, Expected, Answer]] = []
    for phase in range(PHASES):
        if phase:
            await edge.settle()
        if phase == 2:
            known = await _change_some(random, known, edge)
        if phase == 3:
            await edge.fold()
        answers = await asyncio.gather(*(lane.client.ask(lane.phases[phase], lane.depth) for lane in lanes))
        for lane, answered in zip(lanes, answers, strict=True):
            expected = [expect(request, known, utc_now()) for request in lane.phases[phase]]
            asked += [(known, want, got) for want, got in zip(expected, answered, strict=True)]
    for lane in lanes:
        await lane.client.close()
    events = {event["ray"]: event for event in await edge.events(len(asked)) if event.get("why")}
    return list(_described(asked, events))


def _lane(random: Random, known: Knowledge, port: int, number: int) -> Lane:
    is_stream = number >= LANES - 2
    is_proxied = number in (1, LANES - 1)
    address = PROXY if is_proxied else random.choice(ADDRESSES)
    client = StreamClient(port, address) if is_stream else PlainClient(port, address)
    each = CASES_PER_WORLD // LANES // PHASES
    asked: list[Request] = []
    for request in draw_requests(random, known, each * PHASES):
        placed = _as_proxied(random, request) if is_proxied else replace(request, address=ip_address(address))
        asked += _with_repeats(random, known, placed, asked if len(asked) >= each else [])
    asked = [_as_stream(request) for request in asked[: each * PHASES]] if is_stream else asked[: each * PHASES]
    phases = tuple(asked[start : start + each] for start in range(0, len(asked), each))
    return Lane(client, phases, random.randint(1, 8))


def _with_repeats(random: Random, known: Knowledge, request: Request, before: Sequence[Request]) -> list[Request]:
    """What the edge may remember is asked again: at once by a client that is let through, or some time later."""
    if decide(request, known, utc_now()).is_allowed and random.random() < BURSTS:
        return draw_burst(random, request)
    return [random.choice(before) if before and random.random() < REPEATED else request]


def _as_proxied(random: Random, request: Request) -> Request:
    """As a trusted proxy hands it on: the client's address is the last one that is not a proxy's."""
    before = random.choice((ip_address(random.choice(FAR_ADDRESSES)), request.address))
    after = random.choice(("", f", {PROXY}"))
    headers = [line for line in request.headers if not line[0].lower().startswith("x-forwarded-")]
    headers.append(("X-Forwarded-For", f"203.0.113.66, {before}{after}"))
    return replace(request, address=before, headers=tuple(headers))


def _as_stream(request: Request) -> Request:
    """HTTP/2 has one authority and no absolute form, and its fields no blanks around them (RFC 9113 8.2.1, 8.3.1)."""
    hosts = [line for line in request.headers if line[0].lower() == "host"][:1]
    rest = [(name, value.strip(" \t")) for name, value in request.headers if name.lower() != "host"]
    _, mark, origin_form = request.target.partition("://")
    target = "/" + origin_form.partition("/")[2] if mark else request.target
    # HAProxy reads HTTP/2's asterisk form as the root, whatever the method; it is judged and sent on as that.
    target = "/" if target == "*" else target
    return replace(request, target=target, headers=(*hosts, *rest))


async def _change_some(random: Random, known: Knowledge, edge: EdgeUnderTest) -> Knowledge:
    changed = {
        client_id(number): change_token(random, number, utc_now()) if random.random() < 0.8 else None
        for number in random.sample(range(1, TOKENS + 1), 5)
    }
    await edge.tell(changed)
    tokens = {name: changed.get(name, value) for name, value in known.tokens.items()}
    return replace(known, tokens={name: value for name, value in tokens.items() if value is not None})


def _described(asked: Sequence[tuple[Knowledge, Expected, Answer]], events: dict[str, Event]) -> Iterable[str]:
    for known, expected, answer in asked:
        found = differences(expected, answer, events.get(answer.value("cf-ray")))
        if found:
            yield _description(known, expected, found)


def _description(known: Knowledge, expected: Expected, found: list[str]) -> str:
    request, app = expected.request, known.apps.get(expected.decision.app_id)
    lines = [
        f"- {request.method} {request.target} from {request.address}",
        *(f"    {name}: {value}" for name, value in request.headers),
        f"  reference: {expected.decision}",
        *(f"  difference: {sentence}" for sentence in found),
    ]
    if app is not None:
        lines.append(f"  application: {json.dumps(app.to_wire())}")
    return "\n".join(lines)
