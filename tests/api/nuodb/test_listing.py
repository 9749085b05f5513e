"""Lists of the NuoDB dialect: pages as nuocmd turns them, filters that fit whole values, orders of numbers and pairs."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from starlette.requests import Request

from dkv.api.nuodb.pagination import page
from dkv.api.nuodb.safe_regex import BadPattern, matches
from dkv.api.problems import Refusal

ITEMS = [
    {"startId": str(n), "dbName": "test" if n % 2 else "test2", "on": n % 3 == 0, "archiveId": n if n < 12 else None}
    for n in range(50)
]


def list_page(query: str, items: list[dict[str, Any]] = ITEMS) -> dict[str, Any]:
    request = Request({"type": "http", "query_string": query.encode(), "headers": [], "path": "/api/1/processes"})
    return dict(page(request, items))


def ids(query: str) -> list[int]:
    return [int(item["startId"]) for item in list_page(query)["data"]]


def test_a_client_that_turns_its_pages_sees_every_element_once() -> None:
    seen, offset, limit = [], 0, 20
    while True:
        page = list_page(f"offset={offset}&limit={limit}&orderBy=startId")
        seen += [int(item["startId"]) for item in page["data"]]
        if not page["hasNext"]:
            break
        assert len(page["data"]) == limit
        offset, limit = offset + limit, min(2 * limit, page["maxLimit"])
    assert seen == list(range(50))


def test_without_a_limit_everything_is_on_one_page() -> None:
    assert len(list_page("")["data"]) == 50
    assert not list_page("offset=50")["data"]
    assert not list_page("offset=50&limit=20")["hasNext"]


def test_a_filter_fits_the_whole_value() -> None:
    assert ids("filterBy=archiveId&archiveId=1") == [1]
    assert {item["dbName"] for item in list_page("filterBy=dbName&dbName=test")["data"]} == {"test"}
    assert {item["dbName"] for item in list_page("filterBy=dbName&dbName=test.*")["data"]} == {"test", "test2"}
    assert ids("filterBy=archiveId&archiveId=1|10") == [1, 10]
    assert ids("filterBy=on&on=true&limit=2") == [0, 3]


def test_all_filters_have_to_fit_and_what_is_not_there_fits_nothing() -> None:
    assert ids("filterBy=archiveId&filterBy=dbName&archiveId=.*&dbName=test") == [1, 3, 5, 7, 9, 11]
    assert ids("filterBy=nothing&nothing=.*") == []
    nested = [{"process": {"dbName": "a", "startId": "7"}}, {"process": {"dbName": "ab"}}]
    assert list_page("filterBy=process.dbName&process.dbName=a", nested)["data"] == nested[:1]


def test_start_ids_are_ordered_as_numbers_and_incarnations_as_pairs() -> None:
    assert ids("orderBy=startId") == list(range(50))
    assert ids("orderBy=startId&descendingFields=startId")[:3] == [49, 48, 47]
    pairs = [
        {"databaseIncarnation": {"major": a, "minor": b}, "process": {"startId": str(n)}}
        for n, (a, b) in enumerate([(1, 9), (10, 1), (2, 3), (1, 10)])
    ]
    by = "databaseIncarnation.major,databaseIncarnation.minor,process.startId"
    down = "databaseIncarnation.major,databaseIncarnation.minor"
    newest_first = list_page(f"orderBy={by}&descendingFields={down}", pairs)["data"]
    assert [item["process"]["startId"] for item in newest_first] == ["1", "2", "3", "0"]
    assert list_page("orderBy=databaseIncarnation", pairs)["data"] == newest_first[::-1]


def test_what_has_no_value_comes_last() -> None:
    assert ids("orderBy=archiveId,startId")[-1] == 49
    assert list_page("orderBy=archiveId")["data"][12]["archiveId"] is None


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "offset=1e3", "filterBy=dbName&dbName=(", "filterBy=on&on=[z-a]"])
def test_a_mistake_is_refused(query: str) -> None:
    with pytest.raises(Refusal):
        list_page(query)


SAME = ["test", "te.*", "(SM|TE)", "a{2,3}", "[a-c]+x?", "[^a]", r"a\.b", r"\d+", "", "a|", "(?:ab)*", "^ab$", "[]a]+", "x*y+z?"]
TEXTS = ["", "test", "SM", "aa", "aaaa", "abcx", "a.b", "axb", "12", "abab", "ab", "]a", "xxyz", "a\nb", "[a"]


@pytest.mark.parametrize("pattern", SAME)
def test_patterns_mean_what_they_mean_everywhere(pattern: str) -> None:
    assert [matches(pattern, text) for text in TEXTS] == [re.fullmatch(pattern, text) is not None for text in TEXTS]


@pytest.mark.parametrize("pattern", ["(a|a)*b", "((a*)*)*b", "(a?){50}(a?){50}b", "(.*)(.*)(.*)(.*)b"])
def test_no_pattern_holds_a_manager_up(pattern: str) -> None:
    before = time.process_time()
    assert not matches(pattern, "a" * 1000)
    assert time.process_time() - before < 2


@pytest.mark.parametrize("pattern", ["(", ")", "[a", "*a", "a\\", "a{3,1}", "a{101}", "((((a*)*)*)*)*", "a" * 201, "(a{9}){9}"])
def test_a_pattern_that_is_none_or_too_big_is_named(pattern: str) -> None:
    with pytest.raises(BadPattern):
        matches(pattern, "a")
