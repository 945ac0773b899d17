"""The verb that runs the service: `serve`."""

import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry import processors
from digitry.cli.app import MANY, app
from digitry.cli.options import ReadModel, require_serving
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.reading.template import Template

TOKEN = "DIGITRY_TOKEN"
AHEAD = 8
"""Requests that may wait for each worker; more get 503."""
PROCESSOR_S = 4.0
"""Processor time that an image may take: a form and the picture of its blank form may take two seconds."""


@app.command(rich_help_panel=MANY)
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
    model: ReadModel = "reader",
    template: Annotated[
        list[Path] | None,
        typer.Option(help="TOML file of a form that clients can name by its name. Repeatable."),
    ] = None,
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
    from digitry.corrections.store import Corrections
    from digitry.serving.addresses import proxies_of
    from digitry.serving.app import create_app
    from digitry.serving.dispatch import PoolReaders
    from digitry.serving.guard import Hosts, Limits
    from digitry.serving.origins import Origins
    from digitry.serving.server import listening_on, run
    from digitry.workers.pool import WorkerPool

    templates = _templates(template or [])
    proxies = proxies_of(proxy or [])
    origins = Origins(allow_origin or [])
    count = workers or min(processors.available(), 8)
    listening = listening_on(host, port)
    store = Corrections(db)
    limits = Limits(at_once=AHEAD * count)
    # Half of the time is for waiting and half for reading. That is generous for busy machines; the
    # workers also limit the processor time.
    half = limits.read_seconds / 2
    pool = WorkerPool(
        model, workers=count, max_pixels=limits.pixels, wall_s=half, cpu_s=PROCESSOR_S
    )
    application = create_app(
        PoolReaders(pool, wait_s=half),
        store,
        model=pool.artifact,
        limits=limits,
        hosts=Hosts([host, *(allow_host or [])], addresses=not _is_loopback(host)),
        origins=origins,
        token=token,
        templates=templates,
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
    run(application, listening, proxies=proxies)


def _templates(paths: list[Path]) -> "dict[str, Template]":
    """Return the templates of files, by their names, checked as a reader would.

    Raises:
        UsageError: one makes no sense, or two have the same name.
    """
    from digitry.reading.form import form_of
    from digitry.reading.template import load

    found: dict[str, Template] = {}
    for path in paths:
        loaded = load(path)
        try:
            form_of(loaded)
        except UsageError as error:
            raise UsageError(
                f"its reference picture {error.what}", where=path, remedy=error.remedy
            ) from error
        if loaded.name in found:
            raise UsageError(
                f"another template is called {loaded.name!r}",
                where=path,
                remedy='write another name = "…" into the file',
            )
        found[loaded.name] = loaded
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
