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
"""Requests that may wait for each worker; more get 503."""


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 = any free port.")] = 8000,
    db: Annotated[
        str | None,
        typer.Option(
            help="Store of corrections: a file, or postgresql+psycopg://user@host/name. "
            "Default: corrections.db in your data folder (Linux: ~/.local/share/digitry)."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help=f"Token that every client must send. Default: the environment variable {TOKEN}."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of worker processes. Default: one per processor, at most 8."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A shipped model's name, a .onnx file, or a run folder.")
    ] = "reader",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host name that the service accepts. Repeatable."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Web site whose pages may use the service, e.g. https://example.org; with --token "
            "also *, every site. Repeatable."
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a reverse proxy whose X-Forwarded-For is trusted. Repeatable."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Serve a web page and an HTTP API.

    By default it listens on this machine only. Images are not stored; corrected digits are, in the
    database. On SIGTERM or Ctrl-C it finishes pending requests, then exits.
    """
    require_serving()
    token = token or os.environ.get(TOKEN) or None
    if not _is_loopback(host) and token is None:
        raise UsageError(
            f"other machines can reach {host}, so a token is required",
            where="--host",
            remedy=f"give --token, or set {TOKEN}",
        )
    if "*" in (allow_origin or []) and token is None:
        raise UsageError(
            "every web site could use the service, so a token is required",
            where="--allow-origin",
            remedy=f"give --token, set {TOKEN}, or name the sites",
        )
    import uvicorn

    from digitry.corrections.store import Corrections
    from digitry.serving.addresses import proxies_of
    from digitry.serving.app import create_app
    from digitry.serving.dispatch import PoolReaders
    from digitry.serving.guard import Hosts, Limits
    from digitry.serving.origins import Origins
    from digitry.serving.server import configured
    from digitry.workers.pool import WorkerPool

    proxies = proxies_of(proxy or [])
    origins = Origins(allow_origin or [])
    count = workers or min(os.cpu_count() or 1, 8)
    listening = _listening(host, port)
    store = Corrections(db)
    limits = Limits(at_once=AHEAD * count)
    # Half of the time is for waiting and half for reading. That is generous for busy machines; the
    # workers also limit the processor time.
    half = limits.read_seconds / 2
    pool = WorkerPool(model, workers=count, max_pixels=limits.pixels, wall_s=half)
    application = create_app(
        PoolReaders(pool, wait_s=half),
        store,
        model=pool.artifact,
        limits=limits,
        hosts=Hosts([host, *(allow_host or [])], addresses=not _is_loopback(host)),
        origins=origins,
        token=token,
    )
    if not quiet:
        name = f"[{host}]" if ":" in host else host
        print(
            f"digitry: http://{name}:{listening.getsockname()[1]}/ "
            f"model {pool.artifact.metadata.name}, {count} worker{'s' if count > 1 else ''}; "
            f"corrections: {store.address}",
            file=sys.stderr,
            flush=True,
        )
    config = configured(application, proxies=proxies)
    # uvicorn raises the signal that stopped it again at the end. A requested stop is not a failure, so
    # the handlers do nothing then.
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
    """Return a listening socket; called before the model is loaded, so that errors come at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP must be explicit: asyncio disables Nagle's algorithm only for sockets with it, and
    # otherwise every answer waits 40 ms for the client's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise UnavailableError(
            f"port {port} of {host} cannot be opened ({error.strerror})",
            remedy="choose another --port, or 0 for any free port",
        ) from error
    return listening
