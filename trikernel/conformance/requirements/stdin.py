"""Input from the person at the frontend: input_request and input_reply."""

from __future__ import annotations

from typing import Any

import trio

from ...client import Execution
from ..manifest import requirement
from ..probe import ANSWER, Probe
from ..schema import require

MESSAGES = "Messages on the stdin ROUTER/DEALER channel"


async def _ask(probe: Probe, sample: str, answer: str) -> tuple[list[tuple[str, bool]], Execution]:
    """Run a sample that asks for input, and answer it. Returns each prompt, with whether it is for
    a password, and the cell.
    """
    questions: list[tuple[str, bool]] = []

    def hear(prompt: str, password: bool) -> str:
        questions.append((prompt, password))
        return answer

    code = probe.sample(sample)
    probe.needs_apart()
    execution = probe.client.start(code, on_input=hear)
    await probe.answer(execution)
    require(questions, "no input_request came")
    return questions, execution


@requirement("stdin.input", "A cell can ask, and gets the answer.", MESSAGES, "stdin")
async def check_input(probe: Probe) -> None:
    questions, execution = await _ask(probe, "asking", "an answer")
    require(questions[0][1] is False, "password is true")
    require("an answer" in execution.stdout, f"stdout is {execution.stdout!r}")


@requirement("stdin.password", "A question for a password says so.", MESSAGES, "stdin")
async def check_password(probe: Probe) -> None:
    questions, _ = await _ask(probe, "secret", "a word")
    require(questions[0][1] is True, "password is false")


@requirement(
    "stdin.not-allowed", "Without allow_stdin a question fails at once.", "Execute; stdin", "stdin"
)
async def check_not_allowed(probe: Probe) -> None:
    code = probe.sample("asking")
    execution = await probe.execute(code, allow_stdin=False)
    require(execution.status == "error", f"the cell's status is {execution.status!r}")


@requirement(
    "stdin.eof", "The answer \\x04 is the end of the input.", "IPython: raw_input, EOF", "stdin"
)
async def check_eof(probe: Probe) -> None:
    _, execution = await _ask(probe, "asking", "\x04")
    require(execution.status == "error", f"the cell's status is {execution.status!r}")


@requirement(
    "stdin.asker", "Only the client whose cell asks is asked.", f"{MESSAGES}; Sockets", "stdin"
)
async def check_asker(probe: Probe) -> None:
    code = probe.sample("asking")
    probe.needs_apart()
    asked: list[str] = []

    def hear(name: str) -> Any:
        def answer(prompt: str, password: bool) -> str:
            asked.append(name)
            return name

        return answer

    async with probe.another_client() as other:
        # Its connections are made one beside the other: when two of them carry answers, stdin's
        # is there as well. A kernel may drop a question to a client who is not there yet.
        for channel in ("shell", "control"):
            await probe.reply(other.send("kernel_info_request", {}, channel=channel))
        await trio.sleep(0.2)
        execution = other.start(code, on_input=hear("second"))
        probe.asked.append(execution)
        with trio.move_on_after(ANSWER):
            await execution.wait_reply()
    require(asked == ["second"], f"asked were {asked}")


@requirement(
    "stdin.stale", "An answer that nobody asked for answers no later question.", MESSAGES, "stdin"
)
async def check_stale(probe: Probe) -> None:
    code = probe.sample("asking")
    probe.needs_apart()
    probe.send_frames(probe.frames("input_reply", {"value": "stale"}), "stdin")
    await trio.sleep(0.2)  # another socket than the cell's, so it might arrive after it
    execution = probe.client.start(code, on_input=lambda *asked: "fresh")
    await probe.answer(execution)
    require("fresh" in execution.stdout, f"stdout is {execution.stdout!r}")
