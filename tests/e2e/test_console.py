"""The console in a real browser, on a domain of three managers with real engines: what a person does, and what is seen then."""

from __future__ import annotations

import json
import os
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from dkv.access.certificates import Owner, Reachable, new_authority, new_leaf
from tests.conftest import SAID
from tests.e2e.browser import STORED, Person, browser
from tests.e2e.local_domain import LocalDomain, Manager, local_domain
from tests.e2e.proxy import proxy

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STORE = "Orders"
PROXY = "dkv.localhost"  # a name that every browser takes for this machine


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def domain(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("console"), 3, {"DKV_ALLOWED_HOSTS": PROXY}) as running:
        running.create(STORE)
        yield running


@pytest.fixture(scope="module")
def tokens(domain: LocalDomain) -> dict[str, str]:
    """The secret of a token of each role."""
    return {role: domain.do("create", "token", "--role", role).out.strip() for role in ("operator", "viewer")}


@pytest.fixture
def person(chromium: Browser, tmp_path: Path) -> Iterator[Person]:
    """Somebody at a page, who is shown no error of the page and no other host."""
    one = Person(chromium, tmp_path)
    yield one
    wrongs, hosts = one.wrongs, one.hosts
    one.close()
    assert not wrongs
    assert len(hosts) <= 1, hosts


def address(manager: Manager) -> str:
    return f"http://{manager.host}:{manager.port}/"


def test_who_has_no_credential_is_asked_for_one_which_is_kept_in_this_tab_only(
    domain: LocalDomain, tokens: dict[str, str], person: Person
) -> None:
    before = domain.client.newest_events(1)["events"][-1]["sequence"]
    person.open(address(domain.managers[0]))
    person.sees("#login h2", "Log in")
    assert domain.client.newest_events(1)["events"][-1]["sequence"] == before, "a page that is opened is no refused request"
    person.log_in("dkvt_000000000000_wrong")
    assert person.sees("#refused").inner_text()
    person.log_in(tokens["viewer"])
    person.sees("article.store", STORE)
    assert not json.loads(person.page.evaluate(STORED))[0] and not json.loads(person.page.evaluate(STORED))[1]
    person.page.reload()
    person.sees("article.store", STORE)
    person.page.click("#leave")
    person.sees("#login h2", "Log in")
    name, password = domain.credentials
    person.page.fill("#user", name)
    person.page.fill("#password", password)
    person.page.press("#password", "Enter")
    person.sees("#where", f"user {name}")


def test_the_page_says_what_is_at_any_width_in_light_and_dark_and_axe_finds_nothing(
    domain: LocalDomain, tokens: dict[str, str], person: Person
) -> None:
    person.open(address(domain.managers[0]), tokens["operator"])
    person.sees("#state.good", "All is well. 3 servers, 1 store. Live.")
    person.sees(".lose", "Can lose 2 more servers")
    person.sees(".chip summary", "orders-1").click()
    person.sees(".chip[open] .facts", domain.instance(STORE, "orders-1")["host"])
    person.sees("[data-panel=links] .yes", "answers in")
    person.sees("figure", "Operations a second")
    person.sees(".log .why").click()
    person.sees(".chain li")
    for scheme, width in (("light", 1280), ("dark", 400)):
        person.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        person.page.set_viewport_size({"width": width, "height": 800})
        assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width}"
        assert not person.violations(), (scheme, width)


def test_everything_is_reached_by_the_keyboard_and_found(domain: LocalDomain, tokens: dict[str, str], person: Person) -> None:
    person.open(address(domain.managers[0]), tokens["viewer"])
    person.sees("article.store", STORE)
    person.page.keyboard.press("?")
    person.sees("dialog[open]", "who hears whom")
    assert not person.violations()
    person.page.keyboard.press("Escape")
    person.has_no("dialog[open]")
    person.page.keyboard.press("e")
    assert person.page.evaluate("document.activeElement.textContent") == "What happened"
    person.page.keyboard.press("/")
    person.page.keyboard.type("orders-2")
    assert person.sees(".chip:not([data-lost])").inner_text().split()[1] == "orders-2"
    assert person.page.locator(".chip[data-lost]").count() == 2
    person.page.keyboard.press("Escape")
    person.page.wait_for_function("!document.querySelector('[data-lost]')")


def test_a_leaders_death_is_on_the_page_and_so_is_who_leads_then(
    domain: LocalDomain, tokens: dict[str, str], person: Person, record_property: Any
) -> None:
    person.open(address(domain.managers[0]), tokens["viewer"])
    person.sees("#state.good")
    start_id = domain.group(STORE)["leaderStartId"]
    os.kill(domain.pid(STORE, domain.group(STORE)["leader"]), signal.SIGKILL)
    killed = time.monotonic()
    person.sees(f'[data-panel=ended] [data-key="{start_id}"]', "killed by signal")
    record_property(SAID, f"the leader's death was on the page after {(time.monotonic() - killed) * 1000:.0f} ms")
    person.sees("#state.good", "All is well")
    person.sees(".log", "lost its leader")
    person.page.locator(".outage").first.wait_for(state="attached")


def test_a_manager_that_dies_under_the_page_leaves_what_was_known_and_comes_back(
    domain: LocalDomain, tokens: dict[str, str], person: Person
) -> None:
    manager = domain.managers[2]
    person.open(address(manager), tokens["viewer"])
    person.sees("article.store", STORE)
    manager.kill()
    person.sees("#state.lost", "As of")
    assert person.sees("#state a", "s1").get_attribute("href") == address(domain.managers[0])
    person.sees("article.store", STORE)
    manager.restart()
    person.has_no("#state.lost")
    person.sees("#state", "Live.")


def test_the_page_works_below_any_path_of_a_proxy(domain: LocalDomain, tokens: dict[str, str], person: Person) -> None:
    with proxy(domain.managers[0].host, domain.managers[0].port, "/deep/path/") as place:
        person.open(place, tokens["viewer"])
        person.sees("#state", "Live.")
        person.sees(".log .why").click()
        person.sees(".chain li")
        assert person.hosts == {urlsplit(place).netloc}


@pytest.fixture
def encrypted(tmp_path: Path) -> ssl.SSLContext:
    """What a proxy ends TLS with."""
    now, owner, file = int(time.time() * 1000), Owner("somebody"), tmp_path / "proxy.pem"
    leaf = new_leaf(new_authority(owner, now), owner, Reachable("proxy", ("127.0.0.1",)), now)
    file.write_text(leaf.certificate + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_the_page_works_behind_a_proxy_that_has_a_name_and_tls_of_its_own(
    domain: LocalDomain, tokens: dict[str, str], chromium: Browser, encrypted: ssl.SSLContext, tmp_path: Path
) -> None:
    manager = domain.managers[0]
    person = Person(chromium, tmp_path, ignore_https_errors=True)
    with proxy(manager.host, manager.port, "/dkv/", PROXY, encrypted) as place:
        person.open(place, tokens["operator"])
        person.sees("#state.good", "Live.")
        follower = next(name for name in ("orders-1", "orders-2", "orders-3") if name != domain.group(STORE)["leader"])
        begin(person, "Let it lead", follower)
        person.sees("dialog[open]", "Nothing has been changed yet")
        person.page.click("#go")
        person.sees(".legend", f"{follower} leads")
        person.page.goto(place.replace(PROXY, "other.localhost"))
        assert "forbidden_host" in person.page.content()
    person.close()


def test_an_unknown_state_is_a_word_and_a_broken_part_leaves_the_rest(
    domain: LocalDomain, tokens: dict[str, str], person: Person
) -> None:
    view = json.loads(json.dumps(domain.client.read("/live")))
    (store,) = view["stores"]
    odd = json.loads(json.dumps(store)) | {"name": "Odd", "status": "Quantum"}
    odd["instances"][0]["process"]["state"] = "ENTANGLED"
    odd["instances"][0]["state"] = "<b>Superposed</b>"
    view |= {"stores": [store, odd, store | {"name": "Broken", "instances": None}], "tombstones": "?", "waiting": None}
    view["numbers"]["engines"] = None
    bodies = iter([f"data: {json.dumps(view)}\n\n"])

    def answer(route: Any) -> None:
        """Once; what is asked again is never answered."""
        if body := next(bodies, ""):
            route.fulfill(body=body, content_type="text/event-stream")

    person.page.route("**/admin/v1/live", answer)
    person.open(address(domain.managers[0]), tokens["viewer"])
    person.sees("article.store .tag", "Quantum")
    person.sees(".chip", "<b>Superposed</b>")
    person.sees(".cycle", "ENTANGLED")
    person.sees("article.store", "This store could not be drawn")
    person.sees("[data-panel=ended]", "could not be drawn")
    person.sees("[data-panel=waiting]", "could not say what waits")
    person.sees(".log .event")
    assert person.wrongs, "what is broken is said to whoever mends it"
    person.wrongs.clear()


# Orders --------------------------------------------------------------------------------------------------------------


def begin(person: Person, label: str, within: str = "") -> None:
    """Press the button of an order, in an instance's card if one is named."""
    if within:
        chip = person.sees(".chip summary", within)
        if not person.page.locator(".chip[open]").filter(has_text=within).count():
            chip.click()
    place = f'.chip[open]:has-text("{within}") button[data-act]' if within else ".title button[data-act]"
    person.sees(place, label).click()


def test_who_may_only_look_has_no_buttons(domain: LocalDomain, tokens: dict[str, str], person: Person) -> None:
    person.open(address(domain.managers[0]), tokens["viewer"])
    person.sees(".chip summary", "orders-1").click()
    person.sees(".chip[open] .facts")
    assert person.page.locator("button[data-act]").count() == 0


def test_an_order_shows_its_plan_and_is_done_only_then(domain: LocalDomain, tokens: dict[str, str], person: Person) -> None:
    person.open(address(domain.managers[0]), tokens["operator"])
    person.sees("#state.good")
    leader, process = domain.group(STORE)["leader"], domain.group(STORE)["leaderStartId"]
    follower = next(name for name in ("orders-1", "orders-2") if name != leader)
    revision = domain.client.domain()["revision"]
    begin(person, "Let it lead", follower)
    plan = person.sees("dialog[open]", "Nothing has been changed yet")
    assert not person.violations()
    start_id = domain.instance(STORE, follower)["process"]["startId"]
    assert f"dkv switchover database --db-name {STORE} --group UNPARTITIONED --to {start_id}" in plan.inner_text()
    assert domain.client.domain()["revision"] == revision and domain.group(STORE)["leaderStartId"] == process
    person.page.click("#go")
    person.has_no("dialog[open]")
    person.sees(".legend", f"{follower} leads")
    actor = next(event["actor"] for event in domain.client.events() if event["command"] == "Switchover")
    assert actor == f"token {tokens['operator'].split('_')[1]}"


def test_a_plan_that_is_out_of_date_is_not_carried_out_but_made_anew(
    domain: LocalDomain, tokens: dict[str, str], person: Person
) -> None:
    person.open(address(domain.managers[0]), tokens["operator"])
    follower = next(name for name in ("orders-1", "orders-2", "orders-3") if name != domain.group(STORE)["leader"])
    begin(person, "Stop", follower)
    person.sees("dialog[open]", "Nothing has been changed yet")
    domain.client.request("PUT", "/api/1/kvstore/colour", {"newValue": "red"})
    person.page.click("#go")
    person.sees("dialog[open] .no", "The domain has changed since the plan")
    assert domain.instance(STORE, follower)["state"] == "Running"
    person.page.click("#go")
    person.has_no("dialog[open]")
    domain.wait_state(STORE, follower, "Stopped")
    person.sees("#state")
    begin(person, "Start", follower)
    person.sees("dialog[open]", "REQUESTED")
    person.page.click("#go")
    domain.wait_in_sync(STORE, "orders-1", "orders-2", "orders-3")
    person.sees("#state.good")


def test_an_order_that_may_lose_data_wants_the_stores_name_and_its_refusal_is_a_sentence(
    domain: LocalDomain, tokens: dict[str, str], person: Person
) -> None:
    person.open(address(domain.managers[0]), tokens["operator"])
    begin(person, "Kill", "orders-3")
    person.sees("dialog[open]", "may be lost")
    assert not person.page.is_enabled("#go")
    person.page.fill("#typed", "orders")
    assert not person.page.is_enabled("#go")
    person.page.fill("#typed", STORE)
    assert person.page.is_enabled("#go")
    person.page.keyboard.press("Escape")
    person.has_no("dialog[open]")
    begin(person, "Hot copy")
    person.page.fill("dialog[open] input[name=path]", "relative/path")
    person.page.keyboard.press("Enter")
    person.sees("dialog[open] .no")
    assert person.page.locator("#go").count() == 0
    assert domain.instance(STORE, "orders-3")["state"] == "Running"
