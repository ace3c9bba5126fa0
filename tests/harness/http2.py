"""HTTP/2 over TLS with the h2 library, checks of outgoing headers switched off so that odd ones can be sent too."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from harness.http1 import TIMEOUT_SECONDS, Answer, Headers

_HEAD_BYTES, _GOAWAY = 9, 7


class StreamReset(Exception):
    """The server refused the stream or the whole connection without an answer."""


@dataclass(slots=True)
class _Stream:
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    is_ended: bool = False
    is_reset: bool = False


class Http2Connection:
    """One connection with ALPN h2. Streams may be opened several at a time and read in any order."""

    def __init__(self, port: int, tls: ssl.SSLContext, server_name: str) -> None:
        tls.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self._socket = tls.wrap_socket(raw, server_hostname=server_name)
        assert self._socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
        )
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._streams: dict[int, _Stream] = {}
        self._is_over = False
        self._unread = b""
        self._flush()

    def __enter__(self) -> Http2Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def open(self, headers: Headers, body: bytes = b"", trailers: Headers = ()) -> int:
        """Send one request with exactly these headers, pseudo-headers included. Its stream."""
        stream = self._h2.get_next_available_stream_id()
        self._streams[stream] = _Stream()
        ending = list(trailers)
        self._h2.send_headers(stream, list(headers), end_stream=not body and not ending)
        if body:
            self._h2.send_data(stream, body, end_stream=not ending)
        if ending:
            self._h2.send_headers(stream, ending, end_stream=True)
        self._flush()
        return stream

    def read(self, stream: int) -> Answer:
        """The answer on that stream. StreamReset where there is none."""
        state = self._streams[stream]
        while not state.is_ended and not state.is_reset and not self._is_over:
            self._receive()
        if not state.is_ended:
            raise StreamReset
        pairs = tuple((name, value) for name, value in state.headers if not name.startswith(":"))
        return Answer(int(dict(state.headers)[":status"]), pairs, state.body)

    def get(self, authority: str, path: str, headers: Headers = ()) -> Answer:
        """A plain GET."""
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
        return self.read(self.open([*pseudo, *headers]))

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

    def _receive(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self._is_over = True
            return
        for event in self._h2.receive_data(self._but_farewells(data)):
            self._take(event)
        self._flush()

    def _but_farewells(self, data: bytes) -> bytes:
        """The whole frames so far (RFC 9113 4.1), without a GOAWAY that names no error: streams that were opened before
        it are answered (6.8), but the library takes it for the end."""
        self._unread += data
        kept = b""
        while len(self._unread) >= _HEAD_BYTES + (size := int.from_bytes(self._unread[:3], "big")):
            frame, self._unread = self._unread[: _HEAD_BYTES + size], self._unread[_HEAD_BYTES + size :]
            if frame[3] != _GOAWAY or any(frame[_HEAD_BYTES + 4 : _HEAD_BYTES + 8]):
                kept += frame
        return kept

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self._streams[event.stream_id].headers = [(_text(n), _text(v)) for n, v in event.headers]
            case h2.events.DataReceived():
                self._streams[event.stream_id].body += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self._streams[event.stream_id].is_ended = True
            case h2.events.StreamReset():
                self._streams[event.stream_id].is_reset = True
            case h2.events.ConnectionTerminated():
                self._is_over = True


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
