"""A kernel that wraps a program: one bash runs every cell, and lives as long as the kernel."""

import codecs
import os
import re
import shlex
import signal
import subprocess
import uuid
from contextlib import suppress
from functools import partial

import trio

import trikernel

UTF8 = codecs.getincrementaldecoder("utf-8")
BASH = ["bash", "--noediting", "--norc", "--noprofile", "-i"]
SET_UP = r"""
PS1= PS2=; set +H +o history; exec 3>&1 4>&2
__mark() {
    local status=$?
    printf '\000KEY %d %d\n' $1 $status >&3
    printf '\000KEY %d %d\n' $1 $status >&4
    return $status
}
__mark 0
"""


async def wait_for_end(process):
    """What Trio does to end bash: nothing, for `ShellKernel.keep_shell` does it."""
    await process.wait()


class ShellEnded(Exception):
    """The shell has ended in the middle of a cell: by ``exit``, or by a crash."""


class Shell:
    """One bash, to be spoken to. It ends what each cell puts out by a mark on both streams."""

    def __init__(self, process):
        self.process = process
        self.streams = {"stdout": process.stdout, "stderr": process.stderr}
        self.decoders = {name: UTF8("replace") for name in self.streams}
        self.unread = dict.fromkeys(self.streams, "")
        self.key = uuid.uuid4().hex
        self.mark = re.compile(f"\0{self.key} (\\d+) (\\d+)\n")
        self.cell = 0  # the number of the cell that runs, which stands in its mark
        self.in_step = True  # whether that cell's mark was read

    @property
    def is_usable(self):
        return self.in_step and self.process.returncode is None

    async def set_up(self):
        await self.process.stdin.send_all(SET_UP.replace("KEY", self.key).encode())
        await self.listen(lambda name, text: None)

    async def run(self, code, say, grace):
        """Run code, and call ``say(name, text)`` with its output as it comes; the exit status.

        Cancelled, it interrupts what runs, and waits for its end; what has not ended within
        ``grace`` seconds is killed, and the shell with it.
        """
        self.cell += 1
        self.in_step = False
        try:
            await self.send(f"eval {shlex.quote(code)} < /dev/null\n__mark {self.cell}\n")
            status = await self.listen(say)
            self.in_step = status is not None
        finally:
            if not self.in_step:
                await self.interrupt(say, grace)
        if status is None:
            raise ShellEnded("the shell has ended; the next cell gets a new one")
        return status

    async def send(self, text):
        with suppress(trio.BrokenResourceError):  # the shell has ended, as `listen` will tell
            await self.process.stdin.send_all(text.encode())

    async def interrupt(self, say, grace):
        with trio.move_on_after(grace, shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.insist)
                self.in_step = await self.listen(say) is not None
                nursery.cancel_scope.cancel()
        if not self.in_step:
            self.signal(signal.SIGKILL)

    async def insist(self):
        """A signal may come just before the command that it is meant for, or end the mark."""
        while True:
            self.signal(signal.SIGINT)
            await self.send(f"__mark {self.cell}\n")
            await trio.sleep(0.1)

    async def listen(self, say):
        """Pass on the output up to the mark; the exit status, or None if the shell has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follow, "stderr", say)
            return await self.follow("stdout", say)

    async def follow(self, name, say):
        while True:
            text = self.unread[name]
            found = self.mark.search(text)
            if found:
                text, self.unread[name] = text[: found.start()], text[found.end() :]
            elif "\0" in text[-50:]:  # half a mark, perhaps
                half = text.rindex("\0")
                text, self.unread[name] = text[:half], text[half:]
            else:
                self.unread[name] = ""
            if text:
                say(name, text)
            if found and int(found[1]) == self.cell:
                return int(found[2])
            if found:
                continue  # a mark of the cell before, which was interrupted
            chunk = await self.streams[name].receive_some()
            if not chunk:
                return None
            self.unread[name] += self.decoders[name].decode(chunk)

    def signal(self, number):
        """Send a signal to the shell and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class ShellKernel(trikernel.Kernel):
    implementation = "shell"
    implementation_version = "1.0"
    language_info = {"name": "bash", "mimetype": "text/x-sh", "file_extension": ".sh"}
    display_name = "Shell"

    interrupt_grace: float = trikernel.setting(
        0.5, "seconds that a command has to end once it is interrupted"
    )

    async def started(self):
        await self.start_shell()

    async def start_shell(self):
        self.shell = await self.nursery.start(self.keep_shell)
        await self.shell.set_up()

    async def keep_shell(self, task_status):
        """Own one bash, from its start to its end; of what it has started nothing remains."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        run = partial(trio.run_process, BASH, check=False, start_new_session=True, **pipes)
        async with trio.open_nursery() as nursery:
            shell = Shell(await nursery.start(partial(run, deliver_cancel=wait_for_end)))
            task_status.started(shell)
            try:
                await shell.process.wait()
            finally:
                shell.signal(signal.SIGHUP)
                shell.signal(signal.SIGKILL)

    def say(self, name, text):
        self.send_response(self.iopub_socket, "stream", {"name": name, "text": text})

    async def ask(self, code):
        """The output of code that the person does not see."""
        parts = []
        await self.shell.run(code, lambda name, text: parts.append(text), self.interrupt_grace)
        return "".join(parts)

    async def do_execute(self, code, silent, **options):
        if not self.shell.is_usable:
            await self.start_shell()
            self.say("stderr", "this is a new shell: what the last one knew is gone\n")
        status = await self.shell.run(code, self.say, self.interrupt_grace)
        if status:
            text = f"exit status {status}"
            error = {"ename": "ExitStatus", "evalue": str(status), "traceback": [text]}
            self.send_response(self.iopub_socket, "error", error)
            return {"status": "error", **error}

    async def do_complete(self, code, cursor_pos):
        word = re.search(r"[^\s|&;<>()$\"'`]*$", code[:cursor_pos])[0]
        if not word or not self.shell.is_usable:
            return {"matches": []}
        found = await self.ask(f"compgen -A command -A file -A variable -- {shlex.quote(word)}")
        return {"matches": sorted(set(found.split("\n")) - {""})}

    async def do_is_complete(self, code):
        checked = await trio.run_process(
            ["bash", "-n"], stdin=code.encode(), capture_stderr=True, check=False
        )
        if checked.returncode == 0:
            return {"status": "complete"}
        is_open = b"unexpected end of file" in checked.stderr or b"unexpected EOF" in checked.stderr
        return {"status": "incomplete" if is_open else "invalid"}


if __name__ == "__main__":
    trikernel.main(ShellKernel)
