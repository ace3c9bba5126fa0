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
    """One client. `depth`: how many requests are on the way at once."""

    client: PlainClient | StreamClient
    address: str
    depth: int

    def place(self, random: Random, request: Request) -> Request:
        """The request as this client can send it."""
        if self.address == PROXY:
            request = _as_proxied(random, request)
        else:
            request = replace(request, address=ip_address(self.address))
        return _as_stream(request) if isinstance(self.client, StreamClient) else request


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
    lanes = [_lane(random, edge.port, number) for number in range(LANES)]
    known = world.known
    asked: list[tuple[Knowledge, Expected, Answer]] = []
    for phase in range(PHASES):
        if phase:
            await edge.settle()
        allowed = [expected for _, expected, _ in asked if expected.decision.is_allowed]
        if phase == 2:
            known = await _change_some(random, known, edge, [expected.client_id for expected in allowed])
        if phase == 3:
            await edge.fold()
        before = [expected.request for expected in allowed]
        batches = [_draw(random, known, lane, before) for lane in lanes]
        wanted = [[expect(request, known, utc_now()) for request in batch] for batch in batches]
        got = await asyncio.gather(
            *(lane.client.ask(batch, lane.depth) for lane, batch in zip(lanes, batches, strict=True))
        )
        for expected, answered in zip(wanted, got, strict=True):
            asked += [(known, *pair) for pair in zip(expected, answered, strict=True)]
    for lane in lanes:
        await lane.client.close()
    events = await edge.events(len(asked))
    # Of what HAProxy's parser refuses, the line says no reason, and mostly no ray.
    found = list(_described(asked, {event["ray"]: event for event in events if event.get("why")}))
    if len(events) != len(asked):
        found.append(f"{len(events)} events of {len(asked)} requests")
    return found


def _lane(random: Random, port: int, number: int) -> Lane:
    address = PROXY if number in (1, LANES - 1) else random.choice(ADDRESSES)
    client = StreamClient(port, address) if number >= LANES - 2 else PlainClient(port, address)
    return Lane(client, address, random.randint(1, 8))


def _draw(random: Random, known: Knowledge, lane: Lane, before: Sequence[Request]) -> list[Request]:
    """One phase of a lane. What the edge may remember is asked again: at once, by a client that is let through, or in
    a later phase, perhaps by a client somewhere else."""
    count = CASES_PER_WORLD // LANES // PHASES
    asked: list[Request] = []
    for fresh in draw_requests(random, known, count):
        request = lane.place(random, random.choice(before) if before and random.random() < REPEATED else fresh)
        is_let_through = decide(request, known, utc_now()).is_allowed
        burst = is_let_through and random.random() < BURSTS
        drawn = draw_burst(random, known, request) if burst else [request]
        asked += [_as_stream(one) for one in drawn] if isinstance(lane.client, StreamClient) else drawn
    return asked[:count]


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


async def _change_some(random: Random, known: Knowledge, edge: EdgeUnderTest, used: Sequence[str]) -> Knowledge:
    """Some tokens in another state or gone, half of those that were let through among them."""
    names = {name for name in used if name and random.random() < 0.5}
    names |= {client_id(random.randint(1, TOKENS)) for _ in range(2)}
    changed = {
        name: change_token(random, int(name[:32], 16), utc_now()) if random.random() < 0.8 else None
        for name in sorted(names)
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
