"""How a request travels to a worker: some JSON and some bytes in one message, nothing that is run."""

import asyncio
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


def receive(line: socket.socket, limit: int) -> bytes:
    """Wait for one message.

    Raises:
        EOFError: the other end has hung up.
        OSError: the line is broken, or the message longer than the limit.
    """
    received = bytearray()
    while not (whole := _whole(received, limit)):
        received += _some(line.recv(max(_PART, _missing(received))))
    return whole[0]


async def receive_soon(line: socket.socket, limit: int) -> bytes:
    """Do as `receive` does in an event loop; the line must not block."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while not (whole := _whole(received, limit)):
        received += _some(await loop.sock_recv(line, max(_PART, _missing(received))))
    return whole[0]


def _some(part: bytes) -> bytes:
    if not part:
        raise EOFError
    return part


def _missing(received: bytearray) -> int:
    if len(received) < _LENGTH.size:
        return 0
    return _LENGTH.size + int(_LENGTH.unpack_from(received)[0]) - len(received)


def _whole(received: bytearray, limit: int) -> tuple[bytes] | None:
    # Each end waits for an answer before it sends again: never does a second message follow.
    if len(received) < _LENGTH.size:
        return None
    if _LENGTH.unpack_from(received)[0] > limit:
        raise OSError("the message is too long")
    if _missing(received) > 0:
        return None
    return (bytes(memoryview(received)[_LENGTH.size :]),)
