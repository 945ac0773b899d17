"""How a request travels to a worker: some JSON and some bytes in one message, nothing that is run."""

import json
import struct
from collections.abc import Sequence
from typing import Any


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
