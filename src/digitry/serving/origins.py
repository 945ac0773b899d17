"""Web pages of other sites that may use the service (CORS), each named by `--allow-origin`.

Source: the Fetch standard, fetch.spec.whatwg.org, section 3.2.
"""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers

from digitry.errors import UsageError

EVERY = "*"
_ORIGIN = re.compile(r"https?://[^/?#\s@*]+|null")
METHODS = "GET, HEAD, POST, DELETE"
ASKED = "Authorization, Content-Type"
SHOWN = "Location, Retry-After"
KEPT_S = 600
"""How long a browser may keep the answer to its question before the real request."""


class Origins:
    """The origins that may use the service.

    Args:
        names: `https://example.org`, with a port if it is not the usual one; `null` is a page from a file;
            `*` is every page.

    Raises:
        UsageError: a name is not an origin.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(name.lower().removesuffix("/") for name in names)
        for name in self.names - {EVERY}:
            if not _ORIGIN.fullmatch(name):
                raise UsageError(
                    f"{name[:100]} is not an origin",
                    where="--allow-origin",
                    remedy="write the scheme and the host, such as https://example.org:8443",
                )

    def allowed(self, headers: Headers) -> str | None:
        """Return the origin of a request if it may use the service; None otherwise."""
        found = headers.getlist("origin")
        if len(found) != 1:
            return None
        return found[0] if EVERY in self.names or found[0].lower() in self.names else None


def asks(method: str, headers: Headers) -> bool:
    """Return whether a request is a browser's question before the real request."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def answer_headers(origin: str, headers: Headers, *, asked: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers that let a page of this origin see an answer.

    Args:
        origin: an allowed origin.
        headers: of the request.
        asked: whether the request is the question before the real one.
    """
    found = {"access-control-allow-origin": origin, "access-control-expose-headers": SHOWN}
    if asked:
        found |= {
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": ASKED,
            "access-control-max-age": str(KEPT_S),
        }
        if headers.get("access-control-request-private-network") == "true":
            # A page of the internet asks for a service on this machine.
            found["access-control-allow-private-network"] = "true"
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in found.items()]
