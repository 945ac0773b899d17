"""Refusals of the API as problem+json (RFC 9457), each kind with a stable type.

`docs/api.md` lists the kinds. A client may rely on `type` and `status`, never on the wording.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

TYPE = "urn:digitry:problem:"

KINDS: dict[str, tuple[int, str]] = {
    "malformed-request": (400, "Malformed request"),
    "token-needed": (401, "Token required"),
    "foreign-origin": (403, "Cross-origin request refused"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "head-too-slow": (408, "The headers arrived too slowly"),
    "body-too-slow": (408, "The body arrived too slowly"),
    "body-too-large": (413, "The body is too large"),
    "too-many-parts": (413, "The form has too many parts"),
    "unsupported-media-type": (415, "Unsupported media type"),
    "foreign-host": (421, "Unknown host name"),
    "invalid-option": (422, "Invalid option"),
    "unreadable-image": (422, "The image cannot be read"),
    "no-such-digit": (422, "No digit was found in this box"),
    "no-such-line": (422, "No line was found in this box"),
    "too-many-connections": (429, "Too many connections from one address"),
    "too-many-guesses": (429, "Too many wrong tokens from one address"),
    "head-too-large": (431, "The headers are too large"),
    "internal": (500, "Internal error"),
    "busy": (503, "The service is busy"),
    "not-ready": (503, "The service is not ready"),
    "store-unavailable": (503, "The store of corrections cannot be reached"),
    "store-full": (507, "The disk of the store is full"),
}
"""Kind -> (status, title)."""


class Problem(Exception):  # noqa: N818 (RFC 9457 calls it so)
    """A refusal of a request.

    Args:
        kind: a key of `KINDS`.
        detail: what is wrong with this request, and what to do about it.
        headers: additional headers of the answer, such as Retry-After.
        members: additional members of the JSON object.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = KINDS[kind]
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def response(self) -> JSONResponse:
        """Return the refusal as a response."""
        content = {
            "type": TYPE + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return JSONResponse(
            content, self.status, headers=self.headers, media_type="application/problem+json"
        )


def busy(detail: str = "all workers are busy; try again in a second") -> Problem:
    """Return the refusal under overload, with a Retry-After of one second."""
    return Problem("busy", detail, headers={"Retry-After": "1"})
