"""Both ends of the wire for the differential test: an origin that tells what it saw, and clients that send octets as
they are told, pipelined on connections that live on, by HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from foregate.access.model import Header, Request

DEADLINE_SECONDS = 20
FAR_FUTURE = 2**31
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the origin got it."""

    target: str
    headers: tuple[Header, ...]

    def values(self, name: str) -> list[str]:
        """Values of a header, by lower-case name."""
        return [value for header, value in self.headers if header.lower() == name]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Status 0: the connection ended, or the stream was reset, without an answer."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

    def value(self, name: str) -> str:
        """The value of a header, or empty; doubled ones are joined."""
        return ", ".join(value for header, value in self.headers if header.lower() == name)

    @property
    def seen(self) -> Seen | None:
        """What the origin saw, if it was the origin that answered."""
        described = self.value("x-seen")
        if not described:
            return None
        seen = json.loads(described)
        return Seen(seen["target"], tuple((name, value) for name, value in seen["headers"]))


async def start_origin(path: str) -> asyncio.Server:
    """An HTTP/1.1 origin on a unix socket that answers 200 and describes the request it saw."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                start, headers, _ = await _read_message(reader)
                seen = {"target": start.split(" ")[1], "headers": headers}
                # In a header, as an answer to HEAD has no body.
                writer.write(f"HTTP/1.1 200 OK\r\nx-seen: {json.dumps(seen)}\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # The edge is done with this connection, or the test with the origin.
        finally:
            writer.close()

    return await asyncio.start_unix_server(serve, path, limit=_LIMIT)


async def start_assertion_agent(path: str, noticed: Callable[[dict[str, Any], str], None]) -> asyncio.Server:
    """Answers the edge's questions for assertions (`engines/haproxy/edge.lua`) with what they were asked for, in the
    clear, so that an origin can be told apart from another's. `noticed` gets the question and the answer's text."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        text = assertion_text(*(str(asked.get(name, "")) for name in ("app", "client_id", "policy", "session")))
        writer.write(json.dumps({"assertion": text, "refresh_at": FAR_FUTURE}).encode() + b"\n")
        await writer.drain()
        writer.close()
        noticed(asked, text)

    return await asyncio.start_unix_server(serve, path, limit=_LIMIT)


def assertion_text(app_id: str, client_id: str, policy_id: str, session_seconds: str) -> str:
    """What stands in for an assertion of these."""
    return f"{app_id}.{client_id}.{policy_id}.{session_seconds}"


class PlainClient:
    """HTTP/1.1 from one address. Connections are kept and requests pipelined until the edge closes."""

    def __init__(self, port: int, address: str) -> None:
        self._port = port
        self._address = address
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, asked: Sequence[Request], depth: int) -> list[Answer]:
        """Answers in order; up to `depth` requests are on the way at once. What a closed connection swallowed is sent
        again on another."""
        answers: list[Answer] = []
        while len(answers) < len(asked):
            batch = asked[len(answers) : len(answers) + depth]
            is_fresh = self._connection is None
            got = await asyncio.wait_for(self._exchange(batch), DEADLINE_SECONDS)
            if not got and is_fresh:
                got = [Answer(0, (), b"")]
            answers += got
        return answers

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection:
            self._connection[1].close()
            self._connection = None

    async def _exchange(self, batch: Sequence[Request]) -> list[Answer]:
        if self._connection is None:
            self._connection = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(self._address, 0), limit=_LIMIT
            )
        reader, writer = self._connection
        answers: list[Answer] = []
        try:
            writer.write(b"".join(map(_plain_octets, batch)))
            await writer.drain()
            for one in batch:
                start, headers, body = await _read_message(reader, has_body=one.method != "HEAD")
                answer = Answer(int(start.split(" ")[1]), headers, body)
                answers.append(answer)
                if answer.value("connection").lower() == "close":
                    await self.close()
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
        return answers


class StreamClient:
    """HTTP/2 without TLS (prior knowledge) from one address. Requests are interleaved streams of one connection."""

    def __init__(self, port: int, address: str) -> None:
        self._port = port
        self._address = address
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter, H2Connection] | None = None

    async def ask(self, asked: Sequence[Request], depth: int) -> list[Answer]:
        """Answers in order; up to `depth` streams are open at once."""
        answers: list[Answer] = []
        while len(answers) < len(asked):
            batch = asked[len(answers) : len(answers) + depth]
            answers += await asyncio.wait_for(self._exchange(batch), DEADLINE_SECONDS)
        return answers

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection:
            self._connection[1].close()
            self._connection = None

    async def _exchange(self, batch: Sequence[Request]) -> list[Answer]:
        reader, writer, connection = self._connection or await self._open()
        streams = []
        for one in batch:
            stream = connection.get_next_available_stream_id()
            connection.send_headers(stream, _stream_headers(one), end_stream=True)
            streams.append(stream)
        writer.write(connection.data_to_send())
        await writer.drain()
        answers: dict[int, Answer] = {}
        pending = {stream: Answer(0, (), b"") for stream in streams}
        while pending:
            octets = await reader.read(_LIMIT)
            for event in connection.receive_data(octets) if octets else [ConnectionTerminated()]:
                self._take(event, pending, answers, connection)
            writer.write(connection.data_to_send())
        return [answers[stream] for stream in streams]

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, H2Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._address, 0))
        # Nothing is checked or tidied on the way out: odd requests are the point.
        configuration = H2Configuration(
            header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        connection = H2Connection(configuration)
        connection.initiate_connection()
        self._connection = (reader, writer, connection)
        return self._connection

    def _take(
        self, event: object, pending: dict[int, Answer], answers: dict[int, Answer], connection: H2Connection
    ) -> None:
        match event:
            case ResponseReceived(stream_id=stream, headers=lines):
                headers = tuple((str(name), str(value)) for name, value in lines or [])
                pending[stream] = Answer(int(dict(headers)[":status"]), headers, b"")
            case DataReceived(stream_id=stream, data=data):
                so_far = pending[stream]
                pending[stream] = Answer(so_far.status, so_far.headers, so_far.body + (data or b""))
                connection.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            case StreamEnded(stream_id=stream) | StreamReset(stream_id=stream):
                answers[stream] = pending.pop(stream)
            case ConnectionTerminated():
                answers.update(pending)
                pending.clear()
                self._connection = None


def _plain_octets(one: Request) -> bytes:
    lines = [f"{one.method} {one.target} HTTP/1.1", *(f"{n}: {v}" for n, v in one.headers)]
    if one.method in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _stream_headers(one: Request) -> list[tuple[bytes, bytes]]:
    hosts = [value for name, value in one.headers if name.lower() == "host"]
    first = [(":method", one.method), (":scheme", "http"), (":path", one.target)]
    if hosts:
        first.append((":authority", hosts[0]))
    rest = [(name.lower(), value) for name, value in one.headers if name.lower() != "host"]
    lines = [*first, *(("host", value) for value in hosts[1:]), *rest]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]


async def _read_message(
    reader: asyncio.StreamReader, *, has_body: bool = True
) -> tuple[str, tuple[Header, ...], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head[:-4].split("\r\n")
    headers = tuple((name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return start, headers, await reader.readexactly(length) if length and has_body else b""
