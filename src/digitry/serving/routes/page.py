"""Routes of the web page and of the API reference."""

import hashlib
from importlib import resources

from fastapi import FastAPI, Request, Response

from digitry.serving.problems import Problem
from digitry.serving.service import READING

PAGE = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files of the web page besides its JavaScript modules, with their types."""


def add_page(app: FastAPI) -> None:
    """Add the routes of the web page and of the API reference."""
    folder = resources.files("digitry.serving") / "page"
    types = dict(PAGE)
    types |= {
        file.name: "text/javascript; charset=utf-8"
        for file in folder.iterdir()
        if file.name.endswith(".js")
    }
    # The files are read once, so no request can name a path on the disk.
    files = {name: (folder / name).read_bytes() for name in types if (folder / name).is_file()}
    tags = {
        name: f'"{hashlib.sha256(content).hexdigest()[:16]}"' for name, content in files.items()
    }

    def respond(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem("not-found", "the web page has no file of this name")
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers={**headers, "Content-Type": types[name]})

    @app.api_route("/", methods=READING, include_in_schema=False)
    async def index(request: Request) -> Response:
        return respond(request, "index.html")

    @app.api_route("/docs", methods=READING, include_in_schema=False)
    async def docs(request: Request) -> Response:
        return respond(request, "docs.html")

    @app.api_route("/page/{name}", methods=READING, include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return respond(request, name)

    @app.api_route("/favicon.ico", methods=READING, include_in_schema=False)
    async def icon(request: Request) -> Response:
        return respond(request, "icon.svg")
