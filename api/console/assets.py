"""The console's styles and scripts: files of this package, under addresses that change with their content."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.problems import Problem

_FOLDER: Final = Path(__file__).parents[1] / "static"
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    content: bytes
    digest: str
    media_type: str


def address(name: str) -> str:
    """Return where a file is served: the digest in it lets browsers keep the file for good."""
    return f"/static/{name}?v={_load(name).digest}"


async def serve(request: Request) -> Response:
    """Serve a file; one asked for without its digest is kept only as long as it stays the same."""
    name = request.path_params["name"]
    if name not in _names():
        raise Problem(404, "there is no such file")
    asset = await run_in_threadpool(_load, name)
    etag = f'"{asset.digest}"'
    headers = {
        "ETag": etag,
        "Cache-Control": _FOR_GOOD if request.query_params.get("v") == asset.digest else "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        packed = await run_in_threadpool(_packed, name)
        return Response(packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


ROUTES: Final = (Route("/static/{name}", serve, methods=["GET"]),)


_ELSEWHERE: Final = {"plotly.min.js": ("plotly", "package_data/plotly.min.js")}
"""Files that a library ships in its package: the package, and the file's place in it."""


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(one.name for one in _FOLDER.iterdir()) | _ELSEWHERE.keys()


@functools.cache
def _load(name: str) -> Asset:
    content = _file(name).read_bytes()
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Asset(content, hashlib.sha256(content).hexdigest()[:16], media_type)


@functools.cache
def _packed(name: str) -> bytes:
    return gzip.compress(_load(name).content, 6, mtime=0)


def _file(name: str) -> Path:
    if name not in _ELSEWHERE:
        return _FOLDER / name
    package, place = _ELSEWHERE[name]
    spec = find_spec(package)  # found, not imported: only the file is wanted
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent / place
