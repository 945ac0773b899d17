"""The application on a socket: how uvicorn is set up, for `digitry serve` and for tests alike."""

from collections.abc import Sequence
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from digitry.serving.addresses import Network
from digitry.serving.connections import Door, guarded
from digitry.serving.service import Service

OTHER_FILES = 124
"""What the service has open beside its connections: the store, the workers' pipes, libraries."""

GRACE_SECONDS = 8


def configured(application: FastAPI, *, proxies: Sequence[Network] = ()) -> uvicorn.Config:
    """Return how uvicorn is to serve an application of `create_app`.

    Args:
        application: its limits hold for the connections, too.
        proxies: the reverse proxies whose X-Forwarded-For is believed; nobody else's is.

    Raises:
        UnavailableError: this uvicorn has other methods than the guard stands on.
    """
    service: Service = application.state.service
    files = _files_allowed(2 * service.limits.connections + OTHER_FILES)
    limits = replace(
        service.limits, connections=max(1, min(service.limits.connections, files - OTHER_FILES))
    )
    return uvicorn.Config(
        application,
        http=guarded(Door(limits, service.metrics, proxies)),
        ws="none",
        # What it warns of is what strangers send; the counters at /metrics tell it without a flood.
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[str(network) for network in proxies],
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _files_allowed(wanted: int) -> int:
    """Return how many files this process may have open, after asking for more where it has fewer.

    More than there will be connections: those that come at once are open before they are counted.
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
