"""A person's notebook in JupyterLab: every check is on what the page shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

pytest.importorskip("playwright")
pytest.importorskip("jupyterlab")

from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from .lab import CHROMIUM, TIMEOUT, Lab, open_lab

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def test_text_results_and_awaiting(lab: Lab) -> None:
    cells = ["print('printed')\n6 * 7", "import trio\nawait trio.sleep(0.1)\nprint('awaited')"]
    with lab.open(cells) as notebook:
        notebook.run_all()
        notebook.expect_text(0, "printed")
        notebook.expect_text(0, "42")
        notebook.expect_text(1, "awaited")
        expect(notebook.prompt(1)).to_have_text("[2]:")


def test_a_slider_is_moved_while_a_cell_awaits(lab: Lab) -> None:
    cells = [
        "import ipywidgets, trio\n"
        "moved = trio.Event()\n"
        "slider = ipywidgets.IntSlider(0)\n"
        "def on_move(change):\n"
        "    seen.value = f'moved to {change.new}'\n"
        "    moved.set()\n"
        "seen = ipywidgets.Label('not moved')\n"
        "slider.observe(on_move, 'value')\n"
        "ipywidgets.VBox([slider, seen])",
        "await moved.wait()\nprint('heard of it')",
    ]
    with lab.open(cells) as notebook:
        notebook.run_all()
        handle = notebook.output(0).locator(".noUi-handle")
        handle.wait_for(timeout=TIMEOUT)
        notebook.expect_text(0, "not moved")
        notebook.expect_running(1)
        box = handle.bounding_box()
        assert box is not None
        mouse = notebook.page.mouse
        mouse.move(box["x"] + 5, box["y"] + 5)
        mouse.down()
        mouse.move(box["x"] + 100, box["y"] + 5, steps=5)
        mouse.up()
        notebook.expect_text(0, "moved to")
        notebook.expect_text(1, "heard of it")


@pytest.mark.thorough
def test_a_background_task_updates_a_display(lab: Lab) -> None:
    cells = [
        "import trio\n"
        "from trikernel.notebook import nursery\n"
        "shown = display('waiting', display_id=True)\n"
        "go = trio.Event()\n"
        "async def update():\n"
        "    await go.wait()\n"
        "    shown.update('updated')\n"
        "    print('printed later')\n"
        "nursery.start_soon(update)",
        "go.set()",
    ]
    with lab.open(cells) as notebook:
        notebook.run(0)
        notebook.expect_text(0, "waiting")
        notebook.expect_ended(0)
        notebook.run(1)
        notebook.expect_text(0, "updated")
        notebook.expect_text(0, "printed later")
        expect(notebook.output(0)).not_to_contain_text("waiting")
        expect(notebook.output(1)).not_to_contain_text("printed later")


@pytest.mark.thorough
def test_a_plot_is_an_image(lab: Lab) -> None:
    with lab.open(["import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);"]) as notebook:
        notebook.run(0)
        image = notebook.output(0).locator("img")
        image.wait_for(timeout=TIMEOUT)
        assert image.evaluate("image => image.naturalWidth") > 300


@pytest.mark.thorough
def test_an_error_stops_run_all(lab: Lab) -> None:
    """All cells have reached the kernel when one fails: the browser may take its time to send them.

    A comm message takes the same way as they do, after them, and is heard beside the cell that
    awaits it.
    """
    cells = [
        "print('first')",
        "import comm, trio\n"
        "all_sent = trio.Event()\n"
        "manager = comm.get_comm_manager()\n"
        "manager.register_target('all_sent', lambda *_: all_sent.set())\n"
        "print('listening')\n"
        "await all_sent.wait()",
        "raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])",
        "print('third')",
        "print('fourth')",
    ]
    with lab.open(cells) as notebook:
        notebook.run_all()
        notebook.expect_text(1, "listening")
        for number in (1, 2, 3, 4):
            notebook.expect_running(number)
        notebook.open_comm("all_sent")
        notebook.expect_text(2, "ValueError: a")
        notebook.expect_text(2, "KeyError: 'b'")
        notebook.run(0)  # when this has an answer, the ones before have theirs
        expect(notebook.prompt(0)).to_have_text("[4]:", timeout=TIMEOUT)
        for number, word in ((3, "third"), (4, "fourth")):
            expect(notebook.output(number)).not_to_contain_text(word)
            expect(notebook.prompt(number)).not_to_have_text("[*]:")


def test_the_stop_button_stops_a_cell(lab: Lab) -> None:
    waiting = ["import trio\nawait trio.sleep_forever()", "while True:\n    pass"]
    with lab.open(
        [*(f"print('running')\n{code}" for code in waiting), "print('next')"]
    ) as notebook:
        for number in range(len(waiting)):
            notebook.run(number)
            notebook.expect_text(number, "running")
            notebook.expect_running(number)
            notebook.stop()
            notebook.expect_text(number, "KeyboardInterrupt")
            notebook.page.wait_for_timeout(300)  # an error aborts what comes within 0.1 s of it
        notebook.run(2)
        notebook.expect_text(2, "next")


@pytest.mark.thorough
def test_tab_completes(lab: Lab) -> None:
    with lab.open(["a_long_name_to_complete = 1", "a_long_n"]) as notebook:
        notebook.run(0)
        notebook.expect_ended(0)
        editor = notebook.cell(1).locator(".cm-content")
        editor.click()
        notebook.page.keyboard.press("End")
        completer = notebook.page.locator(".jp-Completer-item")
        for _ in range(20):  # JupyterLab drops a Tab that comes before its completer is ready
            notebook.page.keyboard.press("Tab")
            with contextlib.suppress(PlaywrightTimeout):
                completer.wait_for(timeout=TIMEOUT / 20)
                break
        expect(completer).to_contain_text("a_long_name_to_complete", timeout=TIMEOUT)
        notebook.page.keyboard.press("Enter")
        expect(editor).to_contain_text("a_long_name_to_complete", timeout=TIMEOUT)


def test_input_asks_below_its_cell(lab: Lab) -> None:
    asking = [
        "input('name? ')",
        "await __import__('trikernel.notebook').notebook.input('name? ')",
    ]
    with lab.open([f"answer = {ask}\nprint('hello', answer)" for ask in asking]) as notebook:
        for number, name in enumerate(("Ada", "Grace")):
            notebook.run(number)
            box = notebook.output(number).locator("input.jp-Stdin-input")
            box.wait_for(timeout=TIMEOUT)
            box.fill(name)
            box.press("Enter")
            notebook.expect_text(number, f"hello {name}")


def test_live_tasks_are_a_table(lab: Lab) -> None:
    cells = [
        "import trio\nfrom trikernel.notebook import nursery\n"
        "nursery.start_soon(trio.sleep_forever, name='watch')",
        "%tasks",
    ]
    with lab.open(cells) as notebook:
        notebook.run_all()
        row = notebook.output(1).locator("tbody tr")
        expect(row).to_contain_text("In [1]", timeout=TIMEOUT)
        expect(row).to_contain_text("watch")


def test_a_timeline_is_a_picture_that_can_be_zoomed(lab: Lab) -> None:
    cells = [
        "import time, trio\n"
        "async def fetch(number):\n"
        "    await trio.sleep(0.2 + number / 10)\n"
        "async def compute():\n"
        "    await trio.sleep(0.3)\n"
        "    time.sleep(0.2)\n"
        "    await trio.sleep(0.1)\n"
        "async def fail():\n"
        "    await trio.sleep(0.7)\n"
        "    raise ValueError('<b>no</b>')",
        "%%timeline\n"
        "send, receive = trio.open_memory_channel(0)\n"
        "with trio.move_on_after(0.4):\n"
        "    await receive.receive()\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(compute)\n"
        "    nursery.start_soon(fail)\n"
        "    for number in range(4):\n"
        "        nursery.start_soon(fetch, number, name=f'fetch <i>{number}</i>')",
    ]
    with lab.open(cells) as notebook:
        notebook.run_all()
        notebook.expect_ended(1)
        picture = notebook.output(1).locator(".trikernel-timeline")
        expect(picture).to_contain_text("fetch <i>3</i>", timeout=TIMEOUT)
        expect(picture).to_contain_text("compute held the loop for 2")
        expect(picture).to_contain_text("Cell In[1], line 6: time.sleep(0.2)")
        plot = picture.locator("svg.plot")
        before = plot.evaluate("one => one.getBoundingClientRect().width")
        for theme in ("light", "dark"):
            notebook.use_theme(theme)
            notebook.screenshot(theme)
        picture.get_by_text("4x", exact=True).click()
        after = plot.evaluate("one => one.getBoundingClientRect().width")
        assert after == pytest.approx(4 * before, rel=0.01)


@pytest.mark.thorough
def test_a_click_in_the_live_panel_cancels_a_task(lab: Lab) -> None:
    pytest.importorskip("ipywidgets")
    cells = [
        "import trio\nfrom trikernel.notebook import nursery\n"
        "async def crawl():\n"
        "    async with trio.open_nursery() as inner:\n"
        "        for page in range(2):\n"
        "            inner.start_soon(trio.sleep_forever, name=f'<b>page {page}')\n"
        "nursery.start_soon(crawl)\n"
        "nursery.start_soon(trio.sleep_forever, name='watch')",
        "%tasks --live",
        "await trio.sleep_forever()",
    ]
    with lab.open(cells) as notebook:
        notebook.run_all()
        panel = notebook.output(1)
        row = panel.locator(".widget-hbox")
        expect(panel).to_contain_text("<b>page 1", timeout=TIMEOUT)
        expect(row.filter(has_text="the cell")).to_be_visible(timeout=TIMEOUT)
        for theme in ("light", "dark"):
            notebook.use_theme(theme)
            notebook.screenshot(theme)
        row.filter(has_text="nursery of 2").get_by_role("button").click()
        expect(panel).not_to_contain_text("page", timeout=TIMEOUT)
        expect(panel).to_contain_text("watch")
        notebook.page.wait_for_timeout(1000)  # a row that has just moved takes no click
        row.filter(has_text="watch").get_by_role("button").click()
        expect(row.filter(has_text="watch")).to_have_count(0, timeout=TIMEOUT)
        notebook.page.wait_for_timeout(1000)
        row.filter(has_text="the cell").get_by_role("button").click()
        notebook.expect_text(2, "KeyboardInterrupt")


def test_a_breakpoint_is_set_by_a_click_and_names_are_looked_at(lab: Lab) -> None:
    pytest.importorskip("debugpy")
    with lab.open(
        ["def half(number):\n    result = number / 2\n    return result\nhalf(84)"]
    ) as notebook:
        notebook.debug()
        notebook.break_at(0, 3)
        notebook.run(0)
        page = notebook.page
        expect(notebook.cell(0).locator(".jp-DebuggerEditor-highlight")).to_contain_text(
            "return result", timeout=TIMEOUT
        )
        variables = page.locator(".jp-DebuggerVariables")
        expect(variables).to_contain_text("result", timeout=TIMEOUT)
        expect(variables).to_contain_text("42", timeout=TIMEOUT)
        expect(page.locator(".jp-DebuggerCallstack")).to_contain_text("half", timeout=TIMEOUT)
        notebook.screenshot("stopped")
        notebook.command("debugger:continue")
        notebook.expect_text(0, "42.0")
