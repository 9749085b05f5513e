"""API: the console's page, as plain files: everybody may have them, and all that the page shows comes from the live view.

They are read from the package and need no state, so that the page is there when nothing else is. It runs scripts of this manager
only, makes no HTML of texts, and reaches no other host.
"""

from __future__ import annotations

import hashlib
import pkgutil
from functools import cache

from fastapi import APIRouter, Header
from fastapi.responses import Response

from dkv.api.problems import refuse

router = APIRouter(include_in_schema=False)

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml"}
FILES = (
    *("index.html", "style.css", "icon.svg", "actions.json"),
    *("app.js", "dom.js", "words.js", "stream.js", "top.js", "stores.js", "links.js", "plots.js", "happened.js", "plan.js"),
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@router.get("/")
async def page(if_none_match: str = Header(default="")) -> Response:
    """The page."""
    return _answer("index.html", if_none_match)


@router.get("/console/{file}")
async def part(file: str, if_none_match: str = Header(default="")) -> Response:
    """A file of the page."""
    if file not in FILES:
        raise refuse("not_found", f"The console has no file {file[:100]}.", "Open the address of the manager alone.")
    return _answer(file, if_none_match)


def _answer(file: str, known: str) -> Response:
    content, tag = _read(file)
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if tag in (text.strip().removeprefix("W/") for text in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=KINDS[file.rpartition(".")[2]], headers=headers)


@cache
def _read(file: str) -> tuple[bytes, str]:
    """A file and its tag; the files of a release never change."""
    content = pkgutil.get_data("dkv.api", f"console/{file}")
    assert content is not None, file
    return content, f'"{hashlib.sha256(content).hexdigest()[:20]}"'
