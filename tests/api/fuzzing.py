"""Where schemathesis is used: answers held against the description, and requests made from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import httpx
import hypothesis
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

Json = dict[str, Any]


class Description:
    """One API's description. `holds` is what a test asks of every answer."""

    def __init__(self, document: Json) -> None:
        self.schema = schemathesis.openapi.from_dict(document)
        self.operations = {
            (operation.ok().method.upper(), operation.ok().path): operation.ok() for operation in self.schema.get_all_operations()
        }
        self._paths = sorted({path for _, path in self.operations}, key=lambda path: path.count("{"))

    def path_of(self, target: str) -> str | None:
        """The path of the description that an address belongs to: literal ones before those with names."""
        return next((path for path in self._paths if _pattern(path).fullmatch(target)), None)

    def holds(self, answer: httpx.Response) -> None:
        """Raises if an answer is not one that the description has."""
        target = answer.request.extensions.get("target") or answer.request.url.raw_path
        path = self.path_of(target.decode("latin-1").partition("?")[0])
        operation = self.operations.get((answer.request.method, path or ""))
        if operation is not None:
            operation.validate_response(answer)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    # a key of the key-value store may have slashes
    parts = re.split(r"\{[^}]*\}", path)
    name = ".*" if "/kvstore/" in path else "[^/]*"
    return re.compile(name.join(re.escape(part) for part in parts))


_known: dict[bool, Description] = {}


def descriptions(make: Any) -> Mapping[bool, Description]:
    """The descriptions by whether they are the NuoDB dialect's; `make` gives a document, once."""
    for of_nuodb in (False, True):
        if of_nuodb not in _known:
            _known[of_nuodb] = Description(make(of_nuodb))
    return _known


# Requests made from a description --------------------------------------------------------------------------------------

SETTINGS = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    print_blob=False,
)
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance]

Judge = Callable[[str, bytes, Mapping[str, str], bytes], httpx.Response]
"""Asks with method, target, headers and body."""


def fuzz(description: Description, name: tuple[str, str], known: Mapping[str, list[Any]], examples: int, ask: Judge) -> None:
    """Ask one operation in many ways, right and wrong ones, and hold each answer against the description.

    The ways are the same in each run: what fails fails again. The failure prints the request as a curl command.
    """
    operation = description.operations[name]

    @hypothesis.settings(SETTINGS, max_examples=examples)
    @hypothesis.given(data=st.data())
    def ask_once(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
        case = data.draw(operation.as_strategy(mode))
        _say_known(data, case.path_parameters, known)
        sent = requests.Request(**case.as_transport_kwargs(base_url="http://127.0.0.11:7801")).prepare()
        target = str(sent.path_url).encode()
        headers = {key: str(value) for key, value in sent.headers.items() if key.lower() not in HOP}
        body = sent.body.encode() if isinstance(sent.body, str) else bytes(sent.body or b"")
        try:
            answer = ask(str(sent.method), target, headers, body)
            case.validate_response(answer, checks=CHECKS if _another_is_away(answer) else [*CHECKS, not_a_server_error])
        except AssertionError as error:
            error.add_note(f"Replay: {case.as_curl_command()}")
            raise

    ask_once()


def _another_is_away(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and "manager_away" in answer.text


HOP = ("content-length", "connection", "user-agent", "accept-encoding", "host")


def _say_known(data: st.DataObject, parameters: dict[str, Any] | None, known: Mapping[str, list[Any]]) -> None:
    """Three times in four say the name of something that is there: a request about nothing is refused too early."""
    for parameter in parameters or {}:
        if parameter in known and data.draw(st.integers(0, 3)):
            parameters[parameter] = data.draw(st.sampled_from(known[parameter]))  # type: ignore[index]
