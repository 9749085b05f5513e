"""A person at a browser: Debian's Chromium, driven by playwright, on pages that reach nothing but the manager they came from."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60_000  # ms for anything on a busy machine; waits return as soon as it happened
STORED = "JSON.stringify([localStorage.length, document.cookie])"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window; skips the test where there is none."""
    driver: Any = pytest.importorskip("playwright.sync_api", reason="no playwright: './dev setup --browser' installs it")
    if CHROMIUM is None:
        pytest.skip("no chromium: 'sudo ./dev setup --browser' installs it")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Person:
    """One who looks at one page, in a session of its own. What the page does that it must not is kept in `wrongs`."""

    def __init__(self, browser: Browser, pictures: Path, **options: Any) -> None:
        self._pictures = pictures
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.wrongs: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.wrongs.append(str(error)))
        self.page.on("console", lambda message: self._said(message.type, message.text))

    def _said(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith("Failed to load resource"):  # a refusal, or a manager that is away
            self.wrongs.append(text)

    def open(self, address: str, token: str = "") -> Person:
        """Open the page of a manager and, with a token, log in."""
        self.page.goto(address)
        if token:
            self.log_in(token)
        return self

    def log_in(self, token: str) -> None:
        """Type a token where the page asks for one."""
        self.page.fill("#token", token)
        self.page.press("#token", "Enter")

    def sees(self, selector: str, text: str = "") -> Any:
        """The first of these elements that is shown with that text, once there is one."""
        place = self.page.locator(selector).filter(visible=True)
        place = (place.filter(has_text=text) if text else place).first
        place.wait_for()
        return place

    def has_no(self, selector: str) -> None:
        """Wait until no such element is shown."""
        self.page.locator(selector).filter(visible=True).first.wait_for(state="hidden")

    def violations(self) -> str:
        """What axe finds wrong with the page as it is; "" for nothing."""
        axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright")
        answer = axe.Axe().run(self.page, options={"runOnly": RULES})
        return str(answer.generate_report()) if answer.violations_count else ""

    def account(self) -> str:
        """What the page shows, for whoever reads a failed test: a picture is kept, its text is here."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        picture = self._pictures / "page.png"
        with contextlib.suppress(Exception):  # a page that is closed has none
            self.page.screenshot(path=picture, full_page=True)
            return f"picture: {picture}\nwrong: {self.wrongs[:3]}\n{self.page.inner_text('body')[:3000]}"
        return f"no picture; wrong: {self.wrongs[:3]}"

    def close(self) -> None:
        """End the session."""
        self.context.close()
