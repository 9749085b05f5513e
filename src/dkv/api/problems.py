"""API: every no as a problem with a code, one clear sentence and a hint, as the native API shows it; see nuodb/errors.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dkv import hints
from dkv.api.bodies import fields_at
from dkv.domain.decision import Refused
from dkv.domain.refusals import CATALOGUE, Entry, nearest
from dkv.hints import Action, Hint, Part
from dkv.store.contract import StoreError
from dkv.wire import views

API_CODES: dict[str, Entry] = {
    "bad_request": Entry(400, 2, "the request cannot be understood"),
    "unknown_field": Entry(400, 2, "the body has a field that does not exist"),
    "unknown_parameter": Entry(400, 2, "the address has a parameter that does not exist"),
    "forbidden_host": Entry(403, 1, "the Host header is not one of this domain"),
    "forbidden_origin": Entry(403, 1, "a web page of another origin may not use a manager"),
    "cannot_plan": Entry(400, 2, "the request is not a command, so it cannot be planned"),
    "not_found": Entry(404, 1, "there is nothing at that address"),
    "unknown_target": Entry(404, 1, "no engine of this server is reached at that address"),
    "method_not_allowed": Entry(405, 1, "the address does not support that method"),
    "not_supported": Entry(400, 1, "the request asks for something of NuoDB that dkv does not have"),
    "manager_away": Entry(503, 1, "another manager has to answer and does not"),
    "too_many_streams": Entry(503, 1, "the manager serves as many event streams as it can"),
    "too_many_passwords": Entry(503, 1, "the manager has as many passwords to verify as it can"),
    "internal": Entry(500, 1, "the manager failed by a mistake of its own"),
    "waiting_for_domain": Entry(503, 1, "the manager cannot reach the domain state"),
}
"""Refusals of the API itself. The domain's are in refusals.CATALOGUE."""

WIDEST = 1_000  # entries of a list, or fields of an object, in a body
LONGEST_SENTENCE = 2_000  # characters

MISSING_BODY = "The request needs a JSON object as its body, sent as application/json."


class ApiError(Exception):
    """Root of everything this package raises."""


class Refusal(ApiError):
    """A refusal on its way to the answer."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


def refused(code: str, message: str, *hint: Part | Hint) -> Refused:
    """A refusal of a code of either table; `hint` are the parts of what helps."""
    assert code in CATALOGUE or code in API_CODES, code
    return Refused(code, message, hints.hint(*hint))


def refuse(code: str, message: str, *hint: Part | Hint) -> Refusal:
    """The same as an error to raise."""
    return Refusal(refused(code, message, *hint))


class Answer(Protocol):
    """How a dialect answers a refusal; `more` are further fields of the body."""

    def __call__(self, refused: Refused, headers: Mapping[str, str] | None = None, **more: object) -> JSONResponse: ...


def answer(refused: Refused, headers: Mapping[str, str] | None = None, **more: object) -> JSONResponse:
    """The response of a refusal in the native API."""
    entry = entry_of(refused.code)
    body = views.problem(readable(refused), entry) | more
    return JSONResponse(body, entry.status, headers=dict(headers or {}), media_type="application/problem+json")


def entry_of(code: str) -> Entry:
    """What the catalogues say of a code."""
    return API_CODES.get(code) or CATALOGUE[code]


def readable(refused: Refused) -> Refused:
    """A refusal each of whose texts is one line of bounded length."""
    parts = (part if isinstance(part, Action) else one_line(part) for part in refused.hint.parts)
    return Refused(refused.code, one_line(refused.message), hints.hint(*parts))


def one_line(text: str) -> str:
    """A sentence that names something from outside, whatever that is: on one line, and not longer than one reads."""
    read = text[: LONGEST_SENTENCE + 1]
    line = "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in read)
    return line if len(line) <= LONGEST_SENTENCE else line[: LONGEST_SENTENCE - 3] + "..."


def waiting(error: StoreError) -> Refused:
    """The domain's state cannot be reached."""
    detail = error.detail or "it is away"
    message = detail if detail.startswith("waiting for the domain") else f"waiting for the domain: {detail}"
    hint = error.hint or "Ask again, or another manager."
    return refused("waiting_for_domain", f"This manager is {message.rstrip('.')}.", "Engines continue to serve. ", hint)


def install(app: FastAPI, answer: Answer) -> None:
    """Make the application answer every no in its dialect."""

    async def refusal(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refusal)
        return answer(error.refused)

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(_judge(error.errors()))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return answer(_http(request, error), error.headers)

    async def store(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StoreError)
        return answer(waiting(error), {"Retry-After": "1"})

    async def no_text(request: Request, error: Exception) -> JSONResponse:
        """JSON can hold half a surrogate pair; no answer, record or file could."""
        return answer(
            refused(
                "bad_request", "The request has a text that is not Unicode: half of a surrogate pair.", "Send whole characters."
            )
        )

    app.add_exception_handler(Refusal, refusal)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(StoreError, store)
    app.add_exception_handler(UnicodeEncodeError, no_text)


def _http(request: Request, error: HTTPException) -> Refused:
    path = request.url.path
    if error.status_code == 404:
        return refused("not_found", f"There is nothing at {path}.", "All addresses are listed under /docs.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        hint = f"Possible: {allowed}." if allowed else ""
        return refused("method_not_allowed", f"{request.method} is not possible on {path}.", hint)
    return refused("bad_request", str(error.detail))


def _judge(errors: Sequence[Any]) -> Refused:
    """One sentence about the first mistake."""
    first = errors[0]
    kind, location = first["type"], list(first["loc"])
    source, path = location[0], location[1:]
    if kind == "json_invalid":
        return refused("bad_request", "The body is not JSON.", str(first.get("ctx", {}).get("error", "")))
    if not path:
        return refused("bad_request", MISSING_BODY)
    where = _written(path)
    if kind == "extra_forbidden":
        return refused("unknown_field", f"There is no field {where}.", nearest(str(path[-1]), fields_at(path)))
    if kind == "missing":
        return refused("bad_value", f"The field {where} is missing.", f"Give {path[-1]}.")
    what = {"query": "The parameter", "header": "The header", "path": "The name"}.get(str(source), "The field")
    expected = str(first["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return refused("bad_value", f"{what} {where} is {_shown(path, first.get('input'))}.", f"It should be {expected}.")


def _written(path: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _shown(path: Sequence[int | str], value: object) -> str:
    """A value that was sent, cut; not one that nobody is to read, wherever it stands."""
    if any(str(part).lower().endswith(views.SECRETS) for part in path):
        return "hidden here"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


async def known_parameters(request: Request) -> None:
    """Refuse parameters of the address that the route does not know: a misspelt `force` must not be ignored."""
    refuse_unknown(request, [parameter.alias for parameter in request.scope["route"].dependant.query_params])


def refuse_unknown(request: Request, known: Sequence[str]) -> None:
    """Refuse every parameter of the address that is not among these."""
    for name in request.query_params:
        if name not in known:
            hint = nearest(name, known) if known else "This address takes none."
            raise refuse("unknown_parameter", f"There is no parameter {name}.", hint)


async def plain_body(request: Request) -> None:
    """Refuse a body that says one field twice, or that the address would pass over: a `force` in it must not be ignored."""
    route = request.scope["route"]
    if request.method in ("GET", "HEAD") or route.status_code == 400:
        return  # it changes nothing, or refuses every request and says why
    body = await request.body()
    if route.body_field is None:
        if body.strip() not in (b"", b"{}", b"null"):
            raise refuse("bad_request", "This address takes no body.", "Send what it takes as parameters of the address.")
    elif body:
        try:
            value = json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
        except UnicodeDecodeError:
            raise refuse("bad_request", "The body is not JSON: it is not UTF-8.", "Send it as UTF-8.") from None
        except (ValueError, RecursionError):
            return  # what is no JSON is refused by the route, which says what it takes instead
        _not_too_wide(value)


def _not_too_wide(value: Any) -> None:
    """Refuse a list of more entries than are taken: whoever goes through them answers nobody else meanwhile."""
    waiting = [("", value)]
    while waiting:
        name, part = waiting.pop()
        if isinstance(part, dict):
            waiting += [pair for pair in part.items() if isinstance(pair[1], dict | list)]
        elif isinstance(part, list):
            if len(part) > WIDEST:
                where = f"The field {name}" if name else "The body"
                raise refuse("bad_value", f"{where} has {len(part)} entries.", f"Send at most {WIDEST} at once.")
            waiting += [(name, inner) for inner in part if isinstance(inner, dict | list)]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > WIDEST:
        raise refuse("bad_value", f"An object of the body has {len(pairs)} fields.", f"Send at most {WIDEST} at once.")
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise refuse("bad_request", f"The field {name} is given twice.", "Send the field once.")
        fields[name] = value
    return fields


def _no_number(written: str) -> None:
    raise refuse("bad_request", f"The body is not JSON: {written} is not a number.", "Leave it out, or send null.")
