"""The configuration of uvicorn, for `digitry serve` and for the tests."""

from collections.abc import Sequence
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from digitry.serving.addresses import Network
from digitry.serving.connections import ConnectionRegistry, protocol_class
from digitry.serving.service import Service

OTHER_FILES = 124
"""Files that the service opens besides its connections: the store, the workers' sockets, libraries."""

GRACE_SECONDS = 8


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
