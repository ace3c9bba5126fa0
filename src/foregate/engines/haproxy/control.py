"""The runtime socket of one worker: token maps, the generation, how it is doing. asyncio, one session kept open.

The session must be opened before the worker is told to drain: a draining worker takes no new ones, but goes on obeying
this one, so that a revocation reaches requests on connections that it still holds. It ends once `close` is called.
Source: HAProxy management guide, 9.3. Commands are sent one after the other; calls may come concurrently.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from foregate.engines.haproxy.maps import MapLine

# HAProxy reads a command with its payload into one buffer of tune.bufsize (16 KiB).
_MOST_PAYLOAD_BYTES = 14_000
_PROMPT = b"\n> "
_MAP_ID = re.compile(r"^([0-9]+) \((.*)\)", re.MULTILINE)
_NEW_VERSION = re.compile(r"New version created: ([0-9]+)")
# A key or value as one word of a command: nothing that separates or escapes; double quotes are escaped.
_WORD = re.compile(r"[!-&(-:<-\[\]-~]+")
_MOST_ANSWER_BYTES = 64 << 20
_TIMEOUT_SECONDS = 30.0


class ControlError(Exception):
    """The worker did not do what it was told, or cannot be reached. The text holds no entry of a map."""


class TokenMap(StrEnum):
    """The maps whose entries change while a worker runs."""

    BASE = "base.map"
    OVERLAY = "overlay.map"
    HOT = "hot.map"


class Control:
    """A session with one worker. Every method may raise ControlError; all are safe to repeat."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `open_control`."""
        self._reader = reader
        self._writer = writer
        self._lock = asyncio.Lock()
        self._ids: dict[str, str] = {}

    async def put_overlay(self, lines: Sequence[MapLine]) -> None:
        """Set tokens in the overlay, in order: new entries are added, present ones changed in place.

        In force for the next request when this returns, save on connections that remember an earlier success: call
        `raise_generation` after it, unless nothing but new tokens was put.
        """
        await self._put(TokenMap.OVERLAY, lines)

    async def add_overlay(self, lines: Iterable[MapLine]) -> None:
        """Add tokens that the overlay does not hold yet, many at a time. Not safe to repeat: see `add_hot`."""
        await self._add(await self._id(TokenMap.OVERLAY), lines)

    async def add_hot(self, lines: Iterable[MapLine]) -> None:
        """Add hot entries. Add a key once until the next `replace`: a lookup finds the first of equal keys."""
        await self._add(await self._id(TokenMap.HOT), lines)

    async def put_hot(self, lines: Sequence[MapLine]) -> None:
        """Change hot entries in place; takes a time that grows with the map."""
        await self._put(TokenMap.HOT, lines)

    async def replace(self, which: TokenMap, lines: Iterable[MapLine]) -> int:
        """Replace a map's whole content at one moment, while lookups go on. Returns the number of entries.

        To fold, in this order: HOT without what changed, BASE with everything, OVERLAY with what changed since
        `lines` were drawn. The other way round a hot entry could outlive a revocation that only the overlay holds.
        """
        name = await self._id(which)
        found = _NEW_VERSION.search(await self._command(f"prepare map {name}"))
        if found is None:
            raise ControlError("prepare map: no version in the answer")
        version = found[1]
        try:
            count = await self._add(f"@{version} {name}", lines)
            await self._do(f"commit map @{version} {name}")
        except BaseException:
            await self._command(f"clear map @{version} {name}")
            raise
        return count

    async def raise_generation(self, generation: int) -> None:
        """Make every connection check its credentials again. `generation` must be higher than any before."""
        await self._set("proc.gen", f"str({generation})", f"<{generation}>")

    async def hand_over(self, generation: int) -> None:
        """Have a draining worker send its successor all that is still asked on its connections, unjudged.

        In force for the next request when this returns; `generation` as in `raise_generation`.
        """
        await self._set("proc.stale", "int(1)", "<1>")
        # What is remembered is found under other keys no more: hot.map's hold the salt, a connection's the generation.
        await self._set("proc.salt", "str(-)", "<->")
        await self.raise_generation(generation)

    async def info(self) -> dict[str, str]:
        """What `show info` says: `Pid`, `Uptime_sec`, `CurrConns`, `Stopping`, `DroppedLogs`, ..."""
        lines = (await self._command("show info")).splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name}

    async def is_drained(self) -> bool:
        """Whether a draining worker has nothing left but this session: closing it ends the worker."""
        info = await self.info()
        return info.get("Stopping") == "1" and info.get("CurrConns") == "0"

    async def requests(self) -> int:
        """How many requests are being answered now; an idle connection is none."""
        return (await self._command("show sess")).count("fe=edge ")

    async def count(self, which: TokenMap) -> int:
        """The number of entries in a map. HAProxy counts them one by one: not for every second."""
        name = await self._id(which)
        found = re.search(rf"^{name[1:]} \(.*entry_cnt=([0-9]+)", await self._command("show map"), re.MULTILINE)
        return int(found[1]) if found else 0

    async def close(self) -> None:
        """End the session. Safe to repeat."""
        self._writer.close()

    async def _id(self, which: TokenMap) -> str:
        """`#<id>`: a map's name as commands take it, whatever the path it was loaded from."""
        if not self._ids:
            found = _MAP_ID.findall(await self._command("show map"))
            self._ids = {Path(path).name: f"#{number}" for number, path in found}
        if which not in self._ids:
            raise ControlError(f"the worker has no {which}")
        return self._ids[which]

    async def _put(self, which: TokenMap, lines: Sequence[MapLine]) -> None:
        name = await self._id(which)
        for line in lines:
            answer = await self._command(f"set map {name} {_word(line.key)} {_word(line.value)}")
            if "not found" in answer:
                await self._add(name, [line])
            elif answer.strip():
                raise ControlError(f"set map: {_first_line(answer)}")

    async def _add(self, target: str, lines: Iterable[MapLine]) -> int:
        """`add map` in payloads that fit HAProxy's buffer. Returns the number of lines."""
        count, size, part = 0, 0, list[str]()
        for line in lines:
            text = line.text
            if size + len(text) + 1 > _MOST_PAYLOAD_BYTES:
                await self._add_part(target, part)
                size, part = 0, []
            part.append(text)
            size += len(text) + 1
            count += 1
        if part:
            await self._add_part(target, part)
        return count

    async def _add_part(self, target: str, part: list[str]) -> None:
        answer = await self._command(f"add map {target} <<\n" + "\n".join(part) + "\n")
        if answer.strip():
            raise ControlError(f"add map: {_first_line(answer)}")

    async def _set(self, name: str, expression: str, shown: str) -> None:
        await self._command(f"experimental-mode on; set var {name} {expression}")
        answer = await self._command(f"get var {name}")
        if shown not in answer:
            raise ControlError(f"set var: {_first_line(answer)}")

    async def _do(self, command: str) -> None:
        answer = (await self._command(command)).strip()
        if answer:
            raise ControlError(f"{command.split(' ', maxsplit=1)[0]}: {_first_line(answer)}")

    async def _command(self, command: str) -> str:
        """One command, or several with `;`: the answer of the last one."""
        prompts = command.partition("<<")[0].count(";") + 1
        async with self._lock:
            if self._writer.is_closing():
                raise ControlError("the session with the worker is closed")
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    self._writer.write(command.encode("ascii") + b"\n")
                    await self._writer.drain()
                    answer = [await self._reader.readuntil(_PROMPT) for _ in range(prompts)][-1]
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                # What is still to come would be read as the next command's answer.
                self._writer.close()
                raise ControlError(f"the worker's socket failed: {type(error).__name__}") from error
            except BaseException:
                self._writer.close()
                raise
        # A session is asked for every line of a payload with `+ `.
        return answer[: -len(_PROMPT)].decode("ascii", "replace").lstrip("+ ")


async def open_control(socket: Path) -> Control:
    """A session with the worker that listens on `socket`. ControlError where nobody does."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=_MOST_ANSWER_BYTES)
            writer.write(b"prompt\n")
            await reader.readuntil(_PROMPT)
            # The longest HAProxy's timer takes: a session is open as long as its worker.
            writer.write(b"set timeout cli 2000000\n")
            await reader.readuntil(_PROMPT)
    except (OSError, EOFError) as error:
        raise ControlError(f"nobody answers on {socket.name}: {type(error).__name__}") from error
    return Control(reader, writer)


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("not a word of a command")
    return text.replace('"', '\\"')


def _first_line(answer: str) -> str:
    return answer.strip().partition("\n")[0][:200]
