"""Shows, at the end of a test run, what the fleet of simulated domains has seen."""

from __future__ import annotations

import pytest

SAID = pytest.StashKey[list[str]]()


@pytest.fixture
def shown_at_the_end(pytestconfig: pytest.Config) -> list[str]:
    """Texts to print when all tests are over."""
    return pytestconfig.stash.setdefault(SAID, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for text in config.stash.get(SAID, []):
        terminalreporter.section("the simulation: how often each fault struck and each life-cycle row was gone")
        terminalreporter.write_line(text)
