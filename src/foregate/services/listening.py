"""Listening sockets: opened by a process for itself, or by the supervisor for several that share it."""

from __future__ import annotations

import socket

from foregate.core.errors import ErrorCode, ForegateError, invalid

_BACKLOG = 2048


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. ForegateError(UNAVAILABLE) names the `setting` where the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {host} port {port} ({error.strerror}); free it or set {setting} to another port."
        raise ForegateError(ErrorCode.UNAVAILABLE, message) from error
    return listener


def inherit(descriptor: int) -> socket.socket:
    """The listening socket that the parent has left open under this number. ForegateError(INVALID_INPUT) if none is."""
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise invalid(f"Descriptor {descriptor} is no socket ({error.strerror}).") from error
