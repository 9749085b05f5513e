"""Structured logs of a manager: one line an event, on stderr and in a bounded file; the only adapter of structlog."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Any

import structlog

from dkv.printable import printable

FILE = "manager.log"
LARGEST = 4_000_000  # bytes of a file before the next one is begun
KEPT = 3  # older files: manager.log.1 and so on

_file: logging.Handler | None = None


def set_up(level: str = "info") -> None:
    """Log to stderr: readable on a terminal, which nothing in a line can move, and JSON elsewhere."""
    number = logging.getLevelNamesMapping()[level.upper()]
    terminal = sys.stderr is not None and sys.stderr.isatty()
    renderer: Any = _on_a_terminal if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            _keep,
            *([_visible] if terminal else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


GREETING = "manager runs"
"""The event by which a manager says that it serves; on a terminal a few lines for the person who started it."""
_console = structlog.dev.ConsoleRenderer()


def _on_a_terminal(log: Any, method: str, event: structlog.typing.EventDict) -> str:
    if event.get("event") == GREETING:
        return (
            f"The manager of server {event['server']} runs at {event['address']}, in domain {event['domain']}.\n"
            f"  console        {event['console']}\n"
            f"  documentation  {event['documentation']}\n"
            f"  {event['ended_by']}\n"
        )
    return str(_console(log, method, {name: value for name, value in event.items() if value != ""}))


def keep_in(directory: Path) -> None:
    """Keep every line from now on in `manager.log` there too, also those of libraries that warn. Raises OSError."""
    global _file
    _file = _Rotating(directory / FILE, maxBytes=LARGEST, backupCount=KEPT, encoding="utf-8")
    warnings: list[logging.Handler] = [_file, logging.StreamHandler(sys.stderr)]  # without any there is the second
    for handler in warnings:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(_Visible())
    logging.getLogger().handlers = warnings


class _Rotating(logging.handlers.RotatingFileHandler):
    """A full or failing disk costs lines of the file, nothing else: they are on stderr as well."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Pass over it."""


class _Visible(logging.Formatter):
    """Formats the messages of libraries, with every control character escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """The lines of a traceback."""
        return _lines(super().formatException(ei))


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _visible(log: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Texts of an event as a terminal may show them; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _lines(value) if name == "exception" else printable(value)
    return event


def _keep(log: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Write an event into the file as JSON, whatever stderr shows."""
    if _file is not None:
        line = str(structlog.processors.JSONRenderer()(log, method, dict(event)))
        _file.handle(logging.makeLogRecord({"msg": "%s", "args": (line,), "levelno": logging.INFO}))
    return event


def logger(package: str) -> Any:
    """A logger whose lines name the package that writes them."""
    return structlog.get_logger(package=package)
