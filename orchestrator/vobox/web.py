"""The site's public web: signed repositories, release archives, the agent file, the tracker. In clear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from orchestrator.runtime import web

FOLDERS = ("cvmfs", "releases", "agent")  # nothing else below data/www is served


class _Public(StaticFiles):
    """Files with Range (RFC 9110), ETag and Last-Modified; no listing, no file whose name begins with a dot
    but those of a repository."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        if isinstance(answer, FileResponse):
            answer.chunk_size = 2**20  # agent files and releases: each chunk costs a change of threads
        if Path(path).name.startswith(".cvmfs"):
            # The manifest is what tells that there is something new.
            answer.headers["Cache-Control"] = "max-age=5"
        return answer

    def lookup_path(self, path: str) -> tuple[str, object]:  # type: ignore[override]
        hidden = any(part.startswith(".") and not part.startswith(".cvmfs") for part in Path(path).parts)
        return ("", None) if hidden else super().lookup_path(path)


def application(www: Path, tracker: Sequence[BaseRoute]) -> Starlette:
    """Serves the FOLDERS of ``www``, and the routes of the tracker."""
    for folder in FOLDERS:
        (www / folder).mkdir(parents=True, exist_ok=True)
    files = [web.mount(f"/{folder}", _Public(directory=www / folder)) for folder in FOLDERS]
    return web.application([*tracker, *files], None)
