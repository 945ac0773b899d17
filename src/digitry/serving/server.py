"""Serves the application by uvicorn: its socket, its configuration, its end."""

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from digitry.errors import UnavailableError
from digitry.serving.addresses import Network
from digitry.serving.connections import ConnectionRegistry, protocol_class
from digitry.serving.service import Service

OTHER_FILES = 124
"""Files that the service opens besides its connections: the store, the workers' sockets, libraries."""

GRACE_SECONDS = 8

SETTLING_SECONDS = 0.2
"""Between the last connection that is accepted and the end of those without a request."""


def listening_on(host: str, port: int) -> socket.socket:
    """Return a listening socket; called before the model is loaded, so that errors come at once.

    Raises:
        UnavailableError: the port cannot be opened.
    """
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


def run(application: FastAPI, listening: socket.socket, *, proxies: Sequence[Network] = ()) -> None:
    """Serve an application until SIGTERM or Ctrl-C; see `configured`."""
    config = configured(application, proxies=proxies)
    # uvicorn raises the signal that stopped it again at the end. A requested stop is not a failure, so
    # the handlers do nothing then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn's server, which at its end also answers what was sent just before.

    uvicorn closes each connection without a request at once, also one that was accepted a moment ago: its
    request is on the way, and would be lost.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(SETTLING_SECONDS)
        await super().shutdown(sockets)


def configured(application: FastAPI, *, proxies: Sequence[Network] = ()) -> uvicorn.Config:
    """Return the configuration of uvicorn for an application of `create_app`.

    Args:
        application: its `Limits` also apply to the connections.
        proxies: reverse proxies whose X-Forwarded-For is trusted; it is ignored from all others.

    Raises:
        UnavailableError: this version of uvicorn lacks a method that the limits rely on.
    """
    service: Service = application.state.service
    files = _files_allowed(2 * service.limits.connections + OTHER_FILES)
    limits = replace(
        service.limits, connections=max(1, min(service.limits.connections, files - OTHER_FILES))
    )
    return uvicorn.Config(
        application,
        http=protocol_class(ConnectionRegistry(limits, service.metrics, proxies)),
        ws="none",
        # Its warnings are about bad requests; /metrics counts those without filling the log.
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[str(network) for network in proxies],
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _files_allowed(wanted: int) -> int:
    """Return how many files this process may open, after raising its limit if necessary.

    It needs more than the allowed connections: new ones are open before they are counted.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return wanted
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return wanted
    raised = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
    except (OSError, ValueError):
        return allowed
    return raised
