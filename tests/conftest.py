"""What all tests share: --full switches on the tests that take long, and some have something to say at the end."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether it holds.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the tests marked `full`, which take long")


def pytest_configure() -> None:
    """Programs that tests start take Ctrl-C although whoever started the tests ignores it, as a shell does for `... &`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONG_FIRST = ("tests/sim/test_fleet.py", "tests/sim/test_tail.py", "tests/sim/", "tests/e2e/", "tests/safety/", "tests/contract/")
"""Two workers take file after file: the short ones come last, so that neither waits for the other at the end."""


def _place(item: pytest.Item) -> int:
    return next((place for place, path in enumerate(LONG_FIRST) if item.nodeid.startswith(path)), len(LONG_FIRST))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full") is not None:
            item.add_marker(pytest.mark.skip(reason="takes long; run ./dev test --full"))


SAID = "shown at the end"  # the property of a test's report that carries its text, also from a worker process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded under SAID."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, text in report.user_properties:
            if name == SAID:
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(str(text))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test of a domain that several tests share says what that domain showed."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if hasattr(value, "account"):
                report.sections.append((f"the domain of the fixture {name}", value.account()))
    return report
