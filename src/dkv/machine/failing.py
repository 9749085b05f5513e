"""How soon a step that failed is tried again, and how often its failure is logged. Pure.

A step that fails the same way again waits for an eighth of the time for which it has failed, and never longer than LATEST. So no
failure lasts much longer because of the waiting, a short one costs nothing, and one of hours (a full disk) costs a try every two
seconds instead of fourteen a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dkv.machine.steps import Step

SHARE = 0.125  # of the time for which a step has failed: the next try comes so much later
LATEST = 2.0  # s between two tries at most, besides what the step itself rests
OVER = 30.0  # s without a failure after which the next one is a new failure
LOG_EVERY = 60.0  # s between two lines about the same error
MANY = 200  # entries after which those that are over are dropped

Subject = tuple[str, ...]


@dataclass(frozen=True)
class Failing:
    """A step that failed with the same error since `since`, last at `last`; both in s."""

    step: Step
    error: str
    since: float
    last: float

    def waits_until(self) -> float:
        """When to try it again, in s."""
        return self.last + min(LATEST, (self.last - self.since) * SHARE)


@dataclass(frozen=True)
class Line:
    """When an error was logged, in s, and how often it came since without a line."""

    at: float
    unmentioned: int = 0


class Failures:
    """What failed lately. `now` is in s of any clock that does not jump."""

    def __init__(self) -> None:
        self._failing: dict[Subject, Failing] = {}
        self._lines: dict[tuple[Subject, str], Line] = {}

    def waits(self, step: Step, now: float) -> bool:
        """Whether a step is not to be tried yet. A step that may be taken blindly never waits, a step that names how soon it may
        be taken again after a refusal goes by that, and a step that changed is a new step.
        """
        failing = self._failing.get(subject_of(step))
        if failing is None or step.blindly or step.refused_rest_ms is not None or failing.step != step:
            return False
        return now < failing.waits_until()

    def worked(self, step: Step) -> None:
        """It was done, or is not wanted any more."""
        self._failing.pop(subject_of(step), None)

    def failed(self, step: Step | None, error: Exception, now: float) -> int:
        """Note a failure of a step, or of a look (None). How many failures to log now; 0: log nothing."""
        if len(self._failing) + len(self._lines) > MANY:
            self._drop(now)
        kind = kind_of(error)
        if step is not None:
            self._note(step, kind, now)
        return self._line(subject_of(step), kind, now)

    def _note(self, step: Step, kind: str, now: float) -> None:
        before = self._failing.get(subject_of(step))
        same = before is not None and (before.step, before.error) == (step, kind) and now - before.last <= OVER
        since = before.since if before is not None and same else now
        self._failing[subject_of(step)] = Failing(step, kind, since, now)

    def _line(self, subject: Subject, kind: str, now: float) -> int:
        line = self._lines.get((subject, kind))
        if line is not None and now - line.at < LOG_EVERY:
            self._lines[subject, kind] = Line(line.at, line.unmentioned + 1)
            return 0
        self._lines[subject, kind] = Line(now)
        return line.unmentioned + 1 if line is not None else 1

    def _drop(self, now: float) -> None:
        self._failing = {key: failing for key, failing in self._failing.items() if now - failing.last <= OVER}
        self._lines = {key: line for key, line in self._lines.items() if now - line.at < LOG_EVERY}


def subject_of(step: Step | None) -> Subject:
    """What a step does, and to what. The third word of a key only distinguishes tries."""
    return (type(step).__name__, *step.key.split()[:2]) if step is not None else ()


def kind_of(error: Exception) -> str:
    """An error without the numbers in its text, which may differ each time."""
    return f"{type(error).__name__}: {re.sub(r'[0-9]+', '#', str(error))}"
