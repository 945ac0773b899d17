"""The messages between a service and its workers: JSON and bytes, length-prefixed; no pickle."""

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("<Q")
_PART = 1 << 16


def pack(head: Any, contents: Sequence[bytes]) -> bytes:
    """Return one message that holds JSON and several contents.

    Args:
        head: any JSON value.
        contents: bytes, e.g. of image files.
    """
    front = json.dumps([[len(content) for content in contents], head]).encode()
    return b"".join([struct.pack("<I", len(front)), front, *contents])


def unpack(message: bytes) -> tuple[Any, list[bytes]]:
    """Return the JSON and the contents of a message of `pack`."""
    (length,) = struct.unpack_from("<I", message)
    sizes, head = json.loads(message[4 : 4 + length])
    position, contents = 4 + length, []
    for size in sizes:
        contents.append(message[position : position + size])
        position += size
    return head, contents


def framed(message: bytes) -> bytes:
    """Return a message with its length in front, as it is sent over a socket."""
    return _LENGTH.pack(len(message)) + message


def receive(source: socket.socket, received: bytearray, limit: int) -> bytes:
    """Wait for one message and return it.

    Args:
        source: the socket to read from.
        received: bytes received after the previous message; bytes after this one are left in it.
        limit: the largest message, in bytes.

    Raises:
        EOFError: the other end closed the socket.
        OSError: the socket is broken, or the message is longer than the limit.
    """
    while (message := first(received, limit)) is None:
        part = source.recv(max(_PART, _missing(received)))
        if not part:
            raise EOFError
        received += part
    return message


def first(received: bytearray, limit: int) -> bytes | None:
    """Remove the first message from the received bytes and return it; None if it is incomplete.

    Raises:
        OSError: the message is longer than the limit.
    """
    if len(received) < _LENGTH.size:
        return None
    end = _LENGTH.size + int(_LENGTH.unpack_from(received)[0])
    if end - _LENGTH.size > limit:
        raise OSError("the message is too long")
    if len(received) < end:
        return None
    message = bytes(memoryview(received)[_LENGTH.size : end])
    del received[:end]
    return message


def _missing(received: bytearray) -> int:
    if len(received) < _LENGTH.size:
        return 0
    return _LENGTH.size + int(_LENGTH.unpack_from(received)[0]) - len(received)
