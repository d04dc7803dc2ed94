"""The site in a headless Chromium, from its files: light and dark, narrow and wide, and its search.

`.ci/run` makes the site for its own sake; here it is made once more to be looked at.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ..processes import ROOT
from .lab import CHROMIUM

pytest.importorskip("furo", reason="the site's theme: pip install '.[docs]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

PAGES = ["index", "reference/api/kernel", "reference/performance", "examples/chat"]
_MAKE = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
_BACKGROUND = "getComputedStyle(document.body).backgroundColor"
_IS_DARK = "matchMedia('(prefers-color-scheme: dark)').matches"
_WIDER = """Math.max(
    document.documentElement.scrollWidth,
    document.querySelector("article").getBoundingClientRect().right,
) - innerWidth"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where it begins, as a URL."""
    folder = tmp_path_factory.mktemp("site")
    command = [*_MAKE, "-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    run = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert (run.returncode, run.stderr) == (0, "")
    return Path(folder, "html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in one colour scheme, which asks for nothing but files."""
    page = browser.new_page(color_scheme=request.param)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    yield page
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_cut_off_by_its_window_and_dark_is_dark(
    site: str, page: Page, name: str
) -> None:
    for width in (400, 1000, 1100, 1230, 1280, 1320, 1440, 1480, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{site}/{name}.html")
        assert page.evaluate(_WIDER) <= 0
    colour = [int(part) for part in re.findall(r"\d+", page.evaluate(_BACKGROUND))[:3]]
    assert (sum(colour) < 200) is page.evaluate(_IS_DARK), colour


def test_its_search_works_without_a_network(site: str, page: Page) -> None:
    page.goto(f"{site}/index.html")
    page.locator("input[name=q]").first.fill("cancel scope")
    page.keyboard.press("Enter")
    found = page.locator("#search-results li a")
    found.first.wait_for(timeout=30_000)
    found.first.click()
    page.wait_for_url(lambda url: "search.html" not in url, timeout=30_000)
    assert "cancel" in page.inner_text("article").lower()
