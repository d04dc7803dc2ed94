"""JupyterLab in a headless Chromium, with this kernel: what a person at a notebook sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page, expect, sync_playwright

from ..processes import wait_until
from .specs import SPEC, write_spec

__all__ = ["CHROMIUM", "Lab", "Notebook", "open_lab"]

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
TIMEOUT = 60_000  # milliseconds, as Playwright counts
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


class Notebook:
    """One notebook, open on a page. Cells count from 0."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def run(self, number: int) -> None:
        """Select a cell and run it, without waiting for it."""
        self.select(number)
        self.command("notebook:run-cell")

    def run_all(self) -> None:
        """ "Run All Cells" of the menu."""
        self.command("notebook:run-all-cells")

    def select(self, number: int) -> None:
        self.page.evaluate(
            "number => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = number }",
            number,
        )

    def command(self, name: str) -> None:
        self.page.evaluate("name => { void window.jupyterapp.commands.execute(name) }", name)

    def open_comm(self, target: str) -> None:
        """Send a ``comm_open``, as a widget does; after all that was sent before."""
        self.page.evaluate(_OPEN_COMM, target)

    def debug(self) -> None:
        """Press the button with the bug, and wait until it is on."""
        button = self.page.locator(".jp-DebuggerBugButton").first
        button.wait_for(timeout=TIMEOUT)
        self.page.wait_for_function(_CAN_DEBUG, timeout=TIMEOUT)
        button.click()
        self.page.locator(".jp-DebuggerBugButton[aria-pressed=true]").wait_for(timeout=TIMEOUT)

    def break_at(self, number: int, line: int) -> None:
        """Click beside a line of a cell, where breakpoints are; lines count from 1."""
        gutter = self.cell(number).locator(".cm-breakpoint-gutter .cm-gutterElement")
        gutter.nth(line).click(force=True)  # the first one is a spacer
        self.cell(number).locator(".cm-breakpoint-icon").nth(1).wait_for(timeout=TIMEOUT)

    def screenshot(self, name: str = "") -> None:
        """Keep what the page shows, if somebody wants to see it."""
        shots = os.environ.get("SCREENSHOTS")
        if shots:
            test = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
            self.page.screenshot(path=f"{shots}/{test}{name and '-' + name}.png")

    def restart(self) -> float:
        """Restart the kernel as the menu does; milliseconds until the page says that it is idle."""
        return float(self.page.evaluate(_RESTART))

    def use_theme(self, name: str) -> None:
        """``light`` or ``dark``."""
        self.page.evaluate(_USE_THEME, name)
        self.page.locator(f"body[data-jp-theme-light={str(name == 'light').lower()}]").wait_for(
            state="attached", timeout=TIMEOUT
        )

    def stop(self) -> None:
        """Press the button in the toolbar."""
        self.page.locator('[data-command="notebook:interrupt-kernel"]').first.click()

    def cell(self, number: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        """Everything below a cell's code."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def prompt(self, number: int) -> Locator:
        """``[1]:``, ``[*]:`` while it runs."""
        return self.cell(number).locator(".jp-InputArea-prompt")

    def expect_text(self, number: int, text: str) -> None:
        expect(self.output(number)).to_contain_text(text, timeout=TIMEOUT)

    def expect_ended(self, number: int) -> None:
        expect(self.prompt(number)).to_have_text(_NUMBERED, timeout=TIMEOUT)

    def expect_running(self, number: int) -> None:
        expect(self.prompt(number)).to_have_text("[*]:", timeout=TIMEOUT)


class Lab:
    """A server and a browser."""

    def __init__(self, url: str, token: str, root: Path, browser: Any) -> None:
        self._url, self._token, self._root, self._browser = url, token, root, browser

    @contextmanager
    def open(self, cells: Sequence[str], spec: str = SPEC) -> Iterator[Notebook]:
        """A new notebook with these cells, its kernel ready."""
        name = f"{uuid.uuid4().hex}.ipynb"
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": spec, "display_name": spec}},
        )
        nbformat.write(book, self._root / name)
        page = self._browser.new_page(viewport={"width": 1200, "height": 1600})
        try:
            page.goto(f"{self._url}lab/tree/{name}?token={self._token}&reset", timeout=TIMEOUT)
            page.wait_for_function(_READY, timeout=TIMEOUT)
            yield Notebook(page)
        finally:
            Notebook(page).screenshot()
            page.evaluate(_SHUT_DOWN)
            page.close()


@contextmanager
def open_lab(
    folder: Path,
    specs: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Lab]:
    """Start JupyterLab, with settings of its own, and a browser; end both.

    ``specs`` are further kernelspecs by name, ``environment`` variables of the server.
    """
    token, runtime, root = uuid.uuid4().hex, folder / "runtime", folder / "root"
    root.mkdir()
    for name, settings in _SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), "utf-8")
    env = {
        **os.environ,
        **environment,
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    write_spec(folder / "data")
    for name, spec in specs.items():
        write_spec(folder / "data", name, spec)
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
        options = {
            "ServerApp.root_dir": root,
            "IdentityProvider.token": token,
            "LabApp.expose_app_in_browser": True,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        server = subprocess.Popen([*command, *flags], env=env, stdout=log, stderr=log)
        try:
            url = wait_until(lambda: _url(runtime, server, folder), "JupyterLab")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
                yield Lab(url, token, root, browser)
                browser.close()
        finally:
            server.terminate()
            server.wait()


def _url(runtime: Path, server: subprocess.Popen[bytes], folder: Path) -> str:
    assert server.poll() is None, (folder / "server.log").read_text()
    for path in runtime.glob("jpserver-*.json"):
        with suppress(json.JSONDecodeError):  # it is being written
            return str(json.loads(path.read_text())["url"])
    return ""


_NUMBERED = re.compile(r"\[\d+\]:")
_READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.sessionContext?.session?.kernel?.status === "idle";
}"""
_CAN_DEBUG = """() => {
    const button = document.querySelector(".jp-DebuggerBugButton");
    return button && !button.disabled && button.getAttribute("aria-disabled") !== "true";
}"""
_OPEN_COMM = """target => {
    const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
    void session.kernel.createComm(target).open();
}"""
_RESTART = """() => new Promise((resolve, reject) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const begun = performance.now();
    let restarted = false;
    const look = () => {
        if (restarted && kernel.connectionStatus === "connected" && kernel.status === "idle") {
            kernel.statusChanged.disconnect(look);
            resolve(performance.now() - begun);
        }
    };
    kernel.statusChanged.connect(look);
    kernel.restart().then(() => { restarted = true; look(); }, reject);
})"""
_USE_THEME = """name => {
    const theme = name === "light" ? "JupyterLab Light" : "JupyterLab Dark";
    void window.jupyterapp.commands.execute("apputils:change-theme", { theme });
}"""
_SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
