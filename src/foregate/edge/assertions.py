"""Answers workers that ask for a signed assertion, once per application and token, and puts it into their hot map.

The protocol (one line of JSON each way over a unix socket) is written down in `engines/haproxy/edge.lua`. Only our own
workers are answered, known by the process at the other end. What is decided was decided in HAProxy; here the token is
looked at again only so that nothing is remembered of one that has changed meanwhile. One event loop.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import structlog

from foregate.core.records import RecordRefused
from foregate.edge import wire
from foregate.edge.config_records import ConfigRecords
from foregate.edge.hot_entries import Candidate, HotEntries
from foregate.edge.secrets import EdgeSecrets
from foregate.edge.signing import Signer, assertion_claims, metadata_claims, open_signer
from foregate.edge.token_maps import TokenMaps
from foregate.engines.haproxy.maps import HotKey, hot_line

log = structlog.get_logger(__name__)

_LONGEST_LINE_BYTES = 4_096
_PATIENCE_SECONDS = 2.0
# What is signed again when a worker is replaced costs a millisecond of CPU; what is remembered, a kilobyte.
_MOST_REMEMBERED = 20_000
# An assertion with less than this left is of no use to an origin that queues.
_LEAST_SESSION_SECONDS = 60
# Renewed with a good part left, and not all at the same moment.
_REFRESH_AT = (0.6, 0.8)
# cloudflared takes 24 hours.
_METADATA_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker's question about a verified token. `hot` is the key under which the answer may be remembered."""

    app_id: str
    client_id: str
    policy_id: str
    session_seconds: int
    tag: str = field(repr=False)
    hot: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed JWT, and the Unix second from which a new one should be made."""

    text: str = field(repr=False)
    refresh_at: int


@dataclass(frozen=True, slots=True)
class InForce:
    """The records that workers run on, and the secrets that open their keys."""

    records: ConfigRecords
    secrets: EdgeSecrets


class Assertions:
    """Listens on a unix socket until closed."""

    def __init__(
        self,
        maps: TokenMaps,
        hot: HotEntries,
        token_entry: Callable[[str], Awaitable[str | None]],
        is_worker: Callable[[int], bool],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`token_entry`: a token's entry in the maps now, None where there is none. `is_worker`: whether a process is
        one of ours."""
        self._maps = maps
        self._hot = hot
        self._token_entry = token_entry
        self._is_worker = is_worker
        self._clock = clock
        self._in_force: InForce | None = None
        self._signers: dict[str, Signer] = {}
        self._remembered: OrderedDict[tuple[str, ...], Assertion] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "signing")
        self._server: asyncio.Server | None = None

    async def start(self, path: Path, owner: tuple[int, int] | None) -> None:
        """Listen on `path`. `owner`: user and group of the workers where they are not ours."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._server = await asyncio.start_unix_server(self._serve, str(path), limit=_LONGEST_LINE_BYTES)
        os.chmod(path, 0o600)
        if owner is not None:
            os.chown(path, *owner)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def put_in_force(self, in_force: InForce) -> None:
        """From here on, sign by these records: a worker that publishes their keys serves."""
        self._in_force = in_force
        self._signers = {}
        for account_id, keys in in_force.records.keys.items():
            try:
                self._signers[account_id] = open_signer(in_force.secrets.sealing_key, keys)
            except RecordRefused as error:
                log.error("signing_key_refused", account=account_id, reason=str(error))

    async def answer(self, line: bytes) -> tuple[dict[str, object], Candidate | None]:
        """The answer to one line, and for a token what the worker may remember.

        An empty object where there is nothing to sign: the worker asks again, or refuses the request.
        """
        try:
            asked = orjson.loads(line)
            if asked.get("metadata") is True:
                return await self._metadata(str(asked["app"]), str(asked["host"])), None
            ask = Ask(
                str(asked["app"]),
                str(asked["client_id"]),
                str(asked["policy"]),
                int(asked["session"]),
                str(asked["tag"]),
                str(asked["hot"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}, None
        assertion = await self._assert(ask)
        if assertion is None:
            return {}, None
        answer: dict[str, object] = {"assertion": assertion.text, "refresh_at": assertion.refresh_at}
        # The request was judged before the token may have changed, so it is answered; but only what still holds may be
        # remembered.
        stamp = self._maps.folds
        entry = await self._token_entry(ask.client_id)
        if entry is None:
            return answer, None
        key = HotKey(ask.hot, ask.tag, ask.client_id, ask.app_id, ask.policy_id)
        hot = hot_line(key, entry, assertion.text, assertion.refresh_at)
        return answer, None if hot is None else Candidate(ask.client_id, entry, stamp, hot)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                process = _peer(writer)
                if not self._is_worker(process):
                    return
                line = await reader.readline()
                in_force = self._in_force
                answer, candidate = await self.answer(line)
                writer.write(orjson.dumps(answer) + b"\n")
                await writer.drain()
            # What was signed by keys that were replaced meanwhile serves this request alone.
            if candidate is not None and self._in_force is in_force:
                self._hot.add(process, candidate)
        except (TimeoutError, ConnectionError, ValueError):
            return
        finally:
            writer.close()

    async def _assert(self, ask: Ask) -> Assertion | None:
        found = self._about(ask.app_id)
        if found is None:
            return None
        app, auth_domain, signer = found
        session = max(ask.session_seconds, _LEAST_SESSION_SECONDS)
        key = (signer.kid, app.aud, auth_domain, ask.client_id, str(session))
        now = int(self._clock())
        remembered = self._remembered.get(key)
        if remembered is not None and now < remembered.refresh_at:
            self._remembered.move_to_end(key)
            return remembered
        claims = assertion_claims(app.aud, auth_domain, ask.client_id, now, session)
        text = await asyncio.get_running_loop().run_in_executor(self._thread, signer.sign, claims)
        assertion = Assertion(text, now + int(session * random.uniform(*_REFRESH_AT)))  # noqa: S311
        self._remember(key, assertion)
        return assertion

    async def _metadata(self, app_id: str, host: str) -> dict[str, object]:
        found = self._about(app_id)
        if found is None:
            return {}
        app, auth_domain, signer = found
        key = ("metadata", signer.kid, app.aud, auth_domain, host)
        now = int(self._clock())
        remembered = self._remembered.get(key)
        if remembered is None or now >= remembered.refresh_at:
            claims = metadata_claims(app.aud, auth_domain, host, app.domain.partition("/")[0], now)
            text = await asyncio.get_running_loop().run_in_executor(self._thread, signer.sign, claims)
            remembered = Assertion(text, now + _METADATA_SECONDS)
            self._remember(key, remembered)
        return {"assertion": remembered.text}

    def _about(self, app_id: str) -> tuple[wire.AppValue, str, Signer] | None:
        """The application, its issuer's host and its signer; None while one of them is not here."""
        if self._in_force is None:
            return None
        records = self._in_force.records
        app = records.apps.get(app_id)
        account = records.accounts.get(app.account_id) if app else None
        signer = self._signers.get(app.account_id) if app else None
        return (app, account.auth_domain, signer) if app and account and signer else None

    def _remember(self, key: tuple[str, ...], assertion: Assertion) -> None:
        self._remembered[key] = assertion
        while len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def _peer(writer: asyncio.StreamWriter) -> int:
    """The process at the other end of a unix socket (unix(7), SO_PEERCRED)."""
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[0])
