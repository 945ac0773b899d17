"""What the API answers when it refuses: problem+json (RFC 9457), each kind with a stable type.

`docs/api.md` lists the kinds; a client may rely on `type` and `status`, never on the wording.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

TYPE = "urn:digitry:problem:"

KINDS: dict[str, tuple[int, str]] = {
    "malformed-request": (400, "The request cannot be understood"),
    "token-needed": (401, "A token is needed"),
    "foreign-origin": (403, "Another site may not write here"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This address has other methods"),
    "head-too-slow": (408, "The headers came too slowly"),
    "body-too-slow": (408, "The body came too slowly"),
    "body-too-large": (413, "The body is too large"),
    "too-many-parts": (413, "The body has too many parts"),
    "unsupported-media-type": (415, "The body is of a type that is not read"),
    "foreign-host": (421, "This service has another name"),
    "invalid-option": (422, "An option makes no sense"),
    "unreadable-image": (422, "The image cannot be read"),
    "no-such-digit": (422, "There is no such digit in the image"),
    "too-many-connections": (429, "Too many connections from one address"),
    "too-many-guesses": (429, "Too many wrong tokens from one address"),
    "head-too-large": (431, "The headers are too large"),
    "internal": (500, "Something is wrong on our side"),
    "busy": (503, "All readers are at work"),
    "not-ready": (503, "The service cannot do its work now"),
    "store-unavailable": (503, "The store of corrections cannot be reached"),
    "store-full": (507, "The disk of the store is full"),
}
"""Kind -> (status, title)."""


class Problem(Exception):  # noqa: N818 (RFC 9457 calls it so)
    """A refusal, with what a client needs to know.

    Args:
        kind: a key of `KINDS`.
        detail: what is wrong with this request, and what to do about it.
        headers: further headers of the answer, such as Retry-After.
        members: further members of the object.
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
        """Give the answer."""
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


def busy(detail: str = "all readers are at work; try again in a second") -> Problem:
    """Give the refusal under overload: at once, and with the time to wait."""
    return Problem("busy", detail, headers={"Retry-After": "1"})
