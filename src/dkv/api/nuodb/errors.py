"""API: every no of the NuoDB dialect, in the one shape nuocmd reads (docs/reference/nuodb.md#transport).

An error is a JSON object with `code`, the HTTP status as a number, and `messages`, a list of sentences. Routes raise
problems.Refusal as everywhere; problems.py finds out here, by the path, in which words to answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi.responses import JSONResponse

ROOT = "/api/1"


def speaks(path: str) -> bool:
    """Whether an address belongs to this dialect."""
    return path == ROOT or path.startswith(ROOT + "/")


def error(status: int, messages: Sequence[str], headers: Mapping[str, str] | None = None, **more: object) -> JSONResponse:
    """An error in the dialect's shape; nuocmd joins the messages with ": " and ends with exit status 1."""
    body = {"code": status, "messages": list(messages)} | more
    return JSONResponse(body, status, headers=dict(headers or {}))


def sentence(message: str, hint: str) -> str:
    """What nuocmd prints of a refusal: the sentence and what helps."""
    return f"{message} {hint}".strip()


LIST_PARAMETERS: Mapping[str, tuple[Mapping[str, object], str]] = {
    "offset": ({"type": "integer", "minimum": 0, "maximum": 999_999_999}, "How many elements to pass over."),
    "limit": ({"type": "integer", "minimum": 0, "maximum": 999_999_999}, "How many elements to answer at most."),
    "orderBy": ({"type": "string"}, "Dotted fields, with commas between them."),
    "descendingFields": ({"type": "string"}, "Those of `orderBy` whose largest value comes first."),
    "filterBy": (
        {"type": "array", "items": {"type": "string"}},
        "Fields to filter by; each is then a parameter of its own, a pattern that the whole value has to fit.",
    ),
}
"""What every list takes besides one parameter for each filtered field: its schema and what it says."""
