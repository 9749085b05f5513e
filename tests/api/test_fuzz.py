"""Both APIs, asked in ways that nobody thought of: every answer is one that the description has, no refusal changes anything.

The requests are made from the descriptions and are the same in each run. A failure prints the request as a curl command;
`pytest "tests/api/test_fuzz.py::test_...[...]"` asks it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest

from dkv.api.description import describe
from tests.api.furnished import KNOWN, FurnishedWorld, Said, Stage, answered
from tests.api.fuzzing import descriptions, fuzz
from tests.api.world import World

EXAMPLES, MANY = 6, 60
LOOKS = ("GET", "HEAD")
DESCRIBED = {
    of_nuodb: [*found.operations]
    for of_nuodb, found in descriptions(lambda of_nuodb: describe(World().apps["s1"], of_nuodb)).items()
}
OPERATIONS = [pytest.param(of_nuodb, name, id=" ".join(name)) for of_nuodb in DESCRIBED for name in DESCRIBED[of_nuodb]]


async def judged(world: FurnishedWorld, request: Said) -> httpx.Response:
    """Ask, and see that a refusal or a look changed nothing."""
    await world.put_back()
    before = (await world.store.read()).revision
    answer = await answered(world, request)
    after = (await world.store.read()).revision
    changing = request.method not in LOOKS and not request.target.startswith(b"/admin/v1/plan")
    assert after == before or (changing and answer.status_code < 400), f"{answer.status_code} and yet something was changed"
    return answer


def ask_all(stage: Stage, of_nuodb: bool, name: tuple[str, str], examples: int) -> None:
    def ask(method: str, target: bytes, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        encoded = tuple((name.encode("latin-1", "replace"), text.encode("latin-1", "replace")) for name, text in headers.items())
        return stage.runner.run(judged(stage.world, Said(method, target, encoded, body)))

    fuzz(descriptions(lambda _: {})[of_nuodb], name, KNOWN, examples, ask)


@pytest.mark.parametrize(("of_nuodb", "name"), OPERATIONS)
def test_whatever_is_asked_the_answer_is_described_and_no_refusal_changes_anything(
    stage: Stage, of_nuodb: bool, name: tuple[str, str]
) -> None:
    ask_all(stage, of_nuodb, name, EXAMPLES)


@pytest.mark.full
@pytest.mark.parametrize(("of_nuodb", "name"), OPERATIONS)
def test_the_same_with_ten_times_as_many_requests(stage: Stage, of_nuodb: bool, name: tuple[str, str]) -> None:
    ask_all(stage, of_nuodb, name, MANY)
