"""The verb that runs the service: `serve`."""

import ipaddress
import os
import signal
import socket
import sys
from typing import Annotated

import typer

from digitry.cli.app import app
from digitry.cli.options import require_serving
from digitry.errors import UnavailableError, UsageError

TOKEN = "DIGITRY_TOKEN"
AHEAD = 8
"""Requests for each worker that may wait for it; more are told to come again."""


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this machine's needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    db: Annotated[
        str | None,
        typer.Option(
            help="Where corrections are kept: a file, or postgresql+psycopg://user@host/name. "
            "Default: corrections.db in your data folder (Linux: ~/.local/share/digitry)."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help=f"What every client must show. Default: {TOKEN} of the environment."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read. Default: one a processor, at most 8."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A shipped model's name, a .onnx file, or a run folder.")
    ] = "reader",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which the service may be called. Repeatable."),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a reverse proxy in front of it, whose word on who the "
            "client is (X-Forwarded-For) is believed. Repeatable."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Give people a page to write on, and programs an API.

    It listens on this machine alone, unless told otherwise. Images are not kept; a digit that
    somebody corrects is, in the database. SIGTERM or Ctrl-C lets what is under way end first.
    """
    require_serving()
    token = token or os.environ.get(TOKEN) or None
    if not _is_loopback(host) and token is None:
        raise UsageError(
            f"{host} is open to others",
            where="--host",
            remedy=f"give a --token, or set {TOKEN}, so that not everybody can use it",
        )
    import uvicorn

    from digitry.corrections.store import Corrections
    from digitry.serving.addresses import proxies_of
    from digitry.serving.app import create_app
    from digitry.serving.dispatch import PoolReaders
    from digitry.serving.guard import Hosts, Limits
    from digitry.serving.server import configured
    from digitry.workers.pool import WorkerPool

    proxies = proxies_of(proxy or [])
    count = workers or min(os.cpu_count() or 1, 8)
    listening = _listening(host, port)
    store = Corrections(db)
    limits = Limits(at_once=AHEAD * count)
    # Half of the time for waiting, half for reading: on a busy machine the clock runs ahead of the
    # work, and the workers' limit on computing holds anyway.
    half = limits.read_seconds / 2
    pool = WorkerPool(model, workers=count, max_pixels=limits.pixels, wall_s=half)
    application = create_app(
        PoolReaders(pool, wait_s=half),
        store,
        model=pool.artifact,
        limits=limits,
        hosts=Hosts([host, *(allow_host or [])], addresses=not _is_loopback(host)),
        token=token,
    )
    if not quiet:
        name = f"[{host}]" if ":" in host else host
        print(
            f"digitry: http://{name}:{listening.getsockname()[1]}/ "
            f"reads with {pool.artifact.metadata.name}, {count} worker{'s' if count > 1 else ''}; "
            f"corrections: {store.address}",
            file=sys.stderr,
            flush=True,
        )
    config = configured(application, proxies=proxies)
    # uvicorn raises the signal that stopped it once more at the end; a stop that was asked for is
    # no failure, so by then it has nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    """Take the port before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio switches Nagle's algorithm off only where it sees that this is
    # TCP, and with it on, every answer waits 40 ms for the client's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise UnavailableError(
            f"port {port} of {host} cannot be had ({error.strerror})",
            remedy="choose another --port, or 0 for a free one",
        ) from error
    return listening
