"""API: load-balancer queries as filters of process lists (`filterQuery`, docs/reference/nuodb.md#transport).

`label(zone a)`, `start_id(0 1)`, `server_id(s1)` and the like choose processes; `and`, `or`, `not` and `any` put such filters
together; `random(...)` and `round_robin(...)` say how a client would choose among them, which a list passes over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dkv.api.problems import refuse
from dkv.domain.refusals import nearest

LONGEST, DEEPEST = 1_000, 20  # characters of a query, parentheses inside each other
CHOOSING = ("random", "round_robin", "first")
FIELDS = {
    "start_id": "startId",
    "server_id": "host",
    "archive_id": "archiveId",
    "node_id": "nodeId",
    "pid": "pid",
    "hostname": "hostname",
    "region": "regionName",
    "engine_type": "type",
}
KNOWN = ("any", "and", "or", "not", "label", *FIELDS, *CHOOSING)

Fits = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Term:
    """A word, or with `inner` a word and what stands in its parentheses."""

    word: str
    inner: tuple[Term, ...] | None = None


def filter_of(query: str) -> Fits:
    """Which processes, in their JSON, a query chooses. Raises Refusal."""
    if len(query) > LONGEST:
        raise _bad(query, f"it is longer than {LONGEST} characters")
    terms, rest = _terms(query, re.findall(r"[()]|[^\s(),]+", query), 0)
    if rest or len(terms) != 1:
        raise _bad(query, "it is not one filter")
    return _fits(query, terms[0])


def _terms(query: str, signs: list[str], depth: int) -> tuple[tuple[Term, ...], list[str]]:
    """The terms up to the parenthesis that closes, and what follows from there on."""
    if depth > DEEPEST:
        raise _bad(query, f"more than {DEEPEST} parentheses are inside each other")
    terms: list[Term] = []
    while signs and signs[0] != ")":
        word, signs = signs[0], signs[1:]
        if word == "(":
            raise _bad(query, "a parenthesis has no word before it")
        if signs[:1] != ["("]:
            terms.append(Term(word))
            continue
        inner, signs = _terms(query, signs[1:], depth + 1)
        if signs[:1] != [")"]:
            raise _bad(query, "a parenthesis is not closed")
        terms, signs = [*terms, Term(word, inner)], signs[1:]
    return tuple(terms), signs


def _fits(query: str, term: Term) -> Fits:
    inner = term.inner or ()
    if term.word in ("and", "or", "not", *CHOOSING):
        return _together(query, term.word, [_fits(query, part) for part in inner])
    if any(part.inner is not None for part in inner):
        raise _bad(query, f"{term.word} takes words only")
    words = [part.word for part in inner]
    if term.word == "any" and not words:
        return lambda process: True
    if term.word == "label" and len(words) in (1, 2):
        key, value = words[0], words[1:]
        return lambda process: key in process["labels"] and (not value or process["labels"][key] == value[0])
    if term.word in FIELDS and words:
        field = FIELDS[term.word]
        return lambda process: field in process and str(process[field]) in words
    raise _bad(query, f"'{term.word}' is no filter, or lacks its words", nearest(term.word, KNOWN))


def _together(query: str, word: str, filters: Sequence[Fits]) -> Fits:
    if not filters or (word not in ("and", "or") and len(filters) > 1):
        raise _bad(query, f"{word} has {len(filters)} filters in its parentheses")
    if word == "or":
        return lambda process: any(fits(process) for fits in filters)
    if word == "not":
        return lambda process: not filters[0](process)
    return lambda process: all(fits(process) for fits in filters)


def _bad(query: str, why: str, hint: str = "") -> Exception:
    message = f"The filter query '{query[:60]}' cannot be understood: {why}."
    return refuse("bad_value", message, hint or "Write for example label(zone a) or start_id(0 1).")
