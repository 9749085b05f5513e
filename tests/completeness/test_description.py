"""The descriptions are made from the routes; here they are counted against the sources, so that none can be left out."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Any

import pytest

from dkv.api.description import describe
from tests.api.world import World, scenario
from tests.lint.repository import ROOT

METHODS = ("get", "post", "put", "delete", "patch", "head", "options")
PAGES = ("docs.py", "description.py", "console_files.py")  # pages for people are not described


def written() -> Counter[str]:
    """The functions under src/dkv/api that are decorated as routes, by name."""
    names: Counter[str] = Counter()
    for file in (ROOT / "src/dkv/api").rglob("*.py"):
        if file.name not in PAGES:
            names.update(_routes(ast.parse(file.read_text(encoding="utf-8"))))
    return names


def _routes(tree: ast.Module) -> list[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    return [
        function.name
        for function in functions
        for mark in function.decorator_list
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) and mark.func.attr in METHODS
    ]


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, operation) for path, ways in document["paths"].items() for method, operation in ways.items()]


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    """The native description and that of the NuoDB dialect."""
    app = World().apps["s1"]
    return [describe(app, of_nuodb=False), describe(app, of_nuodb=True)]


def function_of(operation: dict[str, Any], method: str, path: str) -> str:
    """The function behind an operation: FastAPI makes its id of function, path and method."""
    rest = re.sub(r"\W", "_", path) + f"_{method}"
    assert operation["operationId"].endswith(rest), operation["operationId"]
    return str(operation["operationId"]).removesuffix(rest)


def test_every_route_that_is_written_is_in_one_description(documents: list[dict[str, Any]]) -> None:
    described = [function_of(operation, *where) for document in documents for *where, operation in operations(document)]
    assert Counter(described) == written()
    assert len(described) > 100


def test_every_operation_says_what_it_takes_what_it_answers_and_how_it_refuses(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        for method, path, operation in operations(document):
            assert operation["description"], f"{method} {path} has no words"
            assert {"4XX", "503"} <= set(operation["responses"]), f"{method} {path} never refuses"
            assert "422" not in operation["responses"]
            for status, answer in operation["responses"].items():
                kinds = answer.get("content", {}).values()
                assert all(kind["schema"] for kind in kinds), f"{method} {path} {status} answers anything"


def test_no_object_is_described_as_anything(documents: list[dict[str, Any]]) -> None:
    """What has no words, or may have any fields, is a gap."""
    free = {"Problem", "Error"}  # a mistake of ours has a correlation id, a process that ended its tombstone
    for document in documents:
        for name, schema in document["components"]["schemas"].items():
            if schema.get("type") == "object" and name not in free:
                assert schema["additionalProperties"] is False, f"{name} may have any field"
                assert name.startswith("Page_") or schema["description"], f"{name} has no words"


@scenario
async def test_each_api_serves_its_own_description_and_the_pages_show_both(world: World) -> None:
    async with world.at() as client:
        native = (await client.get("/admin/v1/openapi.json")).json()
        nuodb = (await client.get("/api/1/openapi.json")).json()
        both = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs")).status_code == 200
    assert set(native["paths"]) | set(nuodb["paths"]) == set(both["paths"])
    assert all(path.startswith("/api/1/") for path in nuodb["paths"])
    assert not any(path.startswith("/api/1/") for path in native["paths"])
    assert {"/healthz", "/readyz", "/admin/v1/stores"} <= set(native["paths"])
