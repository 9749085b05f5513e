"""Wire: hints as JSON: `hint` is plain text, `hintParts` has the actions in it."""

from __future__ import annotations

from typing import cast

from dkv.hints import Hint, to_json
from dkv.wire import schemas


def parts_view(hint: Hint) -> list[schemas.HintPart]:
    """The parts of a hint."""
    return cast(list[schemas.HintPart], to_json(hint))
