"""API: every no of the NuoDB dialect, in the one shape nuocmd reads (docs/reference/nuodb.md#transport).

An error is a JSON object with `code`, the HTTP status as a number, and `messages`, a list of sentences. Routes raise
problems.Refusal as everywhere; the dialect's application answers it by `answer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi.responses import JSONResponse

from dkv.api.problems import entry_of, readable
from dkv.domain.decision import Refused
from dkv.wire.hints import parts_view

ROOT = "/api/1"


def speaks(path: str) -> bool:
    """Whether an address belongs to this dialect."""
    return path == ROOT or path.startswith(ROOT + "/")


def answer(refused: Refused, headers: Mapping[str, str] | None = None, **more: object) -> JSONResponse:
    """The response of a refusal in the dialect; nuocmd prints its sentence and what helps."""
    refused = readable(refused)
    sentence = f"{refused.message} {refused.hint}".strip()
    fields = {"reason": refused.code, "detail": refused.message, "hint": str(refused.hint), "hintParts": parts_view(refused.hint)}
    return error(entry_of(refused.code).status, [sentence], headers, **fields, **more)


def error(status: int, messages: Sequence[str], headers: Mapping[str, str] | None = None, **more: object) -> JSONResponse:
    """An error in the dialect's shape; nuocmd joins the messages with ": " and ends with exit status 1."""
    body = {"code": status, "messages": list(messages)} | more
    return JSONResponse(body, status, headers=dict(headers or {}))
