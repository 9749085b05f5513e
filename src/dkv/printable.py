"""Texts that cannot move a terminal: what is no visible character becomes a visible escape. Pure.

Names, paths, reasons and log lines come from other people and other programs. A terminal takes ESC, BEL, CR, the C1
controls and the marks that turn the direction of writing as orders, so none of them may reach one.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with every control, format and unassigned character as its escape: `\\x1b`, `\\n`, `\\u202e`.

    A backslash stays one, so that doing it twice is the same as doing it once. Half a surrogate pair, which Python makes
    of bytes that are no UTF-8, is escaped too and can then be encoded.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def width(text: str) -> int:
    """How many columns of a terminal a printable text takes: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width  # only such texts pay for it

    return sum(0 if category(c) in ("Mn", "Me") else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """The text if it fits into so many columns, else its beginning with `...` after it."""
    if width(text) <= columns:
        return text
    limit, used = columns - 3, 0
    for at, char in enumerate(text):
        used += width(char)
        if used > limit:
            return f"{text[:at]}..."[: max(0, columns)]
    return text
