"""How a request travels to a worker: some JSON and some bytes in one message, nothing that is run."""

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("<Q")
_PART = 1 << 16


def pack(head: Any, contents: Sequence[bytes]) -> bytes:
    """Put JSON and contents into one message."""
    front = json.dumps([[len(content) for content in contents], head]).encode()
    return b"".join([struct.pack("<I", len(front)), front, *contents])


def unpack(message: bytes) -> tuple[Any, list[bytes]]:
    """Give back what `pack` was given."""
    (length,) = struct.unpack_from("<I", message)
    sizes, head = json.loads(message[4 : 4 + length])
    position, contents = 4 + length, []
    for size in sizes:
        contents.append(message[position : position + size])
        position += size
    return head, contents


def framed(message: bytes) -> bytes:
    """Put the length of a message before it, as it goes over a line."""
    return _LENGTH.pack(len(message)) + message


def receive(line: socket.socket, received: bytearray, limit: int) -> bytes:
    """Wait for one message.

    Args:
        line: where it comes from.
        received: what has come beyond the message before; what comes beyond this one stays there.
        limit: bytes of a message.

    Raises:
        EOFError: the other end has hung up.
        OSError: the line is broken, or the message longer than the limit.
    """
    while (message := first(received, limit)) is None:
        part = line.recv(max(_PART, _missing(received)))
        if not part:
            raise EOFError
        received += part
    return message


def first(received: bytearray, limit: int) -> bytes | None:
    """Take the first message out of what was received; None if it is not whole.

    Raises:
        OSError: it is longer than the limit.
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
