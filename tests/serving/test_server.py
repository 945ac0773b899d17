"""The service answers what it has accepted, also at its end."""

import asyncio
from collections.abc import Awaitable, Callable

import uvicorn

from digitry.serving.server import _Server


def test_a_request_that_is_on_its_way_at_the_end_is_answered() -> None:
    """Its connection was accepted, but its bytes come after the last connection was."""

    async def hello(scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def asked() -> bytes:
        config = uvicorn.Config(hello, lifespan="off", log_level="error", port=0)
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        (listening,) = server.servers
        host, port = listening.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port)
        while not server.server_state.connections:
            await asyncio.sleep(0)
        server.should_exit = True
        while listening.is_serving():
            await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await serving
        return answer

    assert asyncio.run(asked()).startswith(b"HTTP/1.1 200 ")
