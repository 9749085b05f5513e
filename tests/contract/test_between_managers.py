"""What managers ask each other over HTTP, so that managers of two releases can share a domain while they are upgraded
(docs/decisions/0102-managers-ask-each-other-what-they-always-did.md).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typing_extensions import is_typeddict

from dkv.api.description import describe
from dkv.api.nuodb import schemas as dialect
from dkv.wire import schemas
from tests.api.world import World
from tests.lint.repository import python_files, tree_of

FIELDS = Path(__file__).parent / "between_managers.txt"
"""Every field of these answers. Lines are added by whoever adds a field; none is changed or removed, since a manager of the
release before reads it.
"""
ASKED: dict[tuple[str, str, tuple[str, ...]], Any] = {
    ("GET", "/admin/v1/identity", ()): schemas.Identity,
    ("GET", "/admin/v1/machines", ("local",)): schemas.Machines,
    ("GET", "/admin/v1/metrics", ("windowSec", "local")): schemas.Metrics,
    ("GET", "/admin/v1/numbers", ()): schemas.Numbers,
    ("GET", "/admin/v1/tokens/used", ()): schemas.TokensUsed,
    ("GET", "/api/1/diagnostics/config", ()): dialect.Config,
    ("POST", "/api/1/peers/{server_id}/shutdown", ("evictLocal",)): dialect.Nothing,
}
"""What is asked, with its parameters, and what is answered."""
ASKS = (
    "api/live.py",
    "api/machines.py",
    "api/metrics.py",
    "api/tokens.py",
    "api/nuodb/decommission.py",
    "api/nuodb/diagnostics.py",
)
"""The files of the product in which a manager asks another through `Peers`; `other_managers.py` asks for the identity."""


def fields_of(kind: Any, name: str) -> Iterator[str]:
    """Each field of an answer, those of what it holds too."""
    if is_typeddict(kind):
        for field, hint in sorted(get_type_hints(kind).items()):
            yield f"{name}.{field}"
            yield from fields_of(hint, f"{name}.{field}")
    for part in get_args(kind):
        yield from fields_of(part, name)


def test_answers_to_other_managers_have_every_field_that_they_ever_had() -> None:
    now = sorted({line for (_, path, _), kind in ASKED.items() for line in fields_of(kind, path)})
    assert now == FIELDS.read_text(encoding="utf-8").splitlines(), (
        "add the lines that are new; a line that is gone breaks managers"
    )


def test_what_managers_ask_each_other_is_served_with_its_parameters() -> None:
    served = describe(World().apps["s1"])["paths"]
    for method, path, parameters in ASKED:
        known = {parameter["name"] for parameter in served[path][method.lower()].get("parameters", ())}
        assert set(parameters) <= known, (method, path)


def test_nothing_else_asks_another_manager() -> None:
    asking = {
        name.relative_to("src/dkv").as_posix()
        for name in python_files("src")
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute) and node.attr in ("fetch", "order") and ast.unparse(node.value).endswith("peers")
    }
    assert asking == set(ASKS), "say in ASKED what it asks"
