"""Structured logs of a manager: one line an event, on stderr; the one door to structlog."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def set_up(level: str = "info") -> None:
    """Log to stderr: readable on a terminal, JSON elsewhere."""
    number = logging.getLevelNamesMapping()[level.upper()]
    terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def logger(room: str) -> Any:
    """A logger that says which room speaks."""
    return structlog.get_logger(room=room)
