"""A kernel that was written for ipykernel: plain functions, and a bash. One import is new."""

import os
import signal
import subprocess
import uuid

from traitlets import Unicode

from trikernel.compat import IPKernelApp, Kernel


class PortedKernel(Kernel):
    implementation = "ported"
    implementation_version = "1.0"
    language_info = {"name": "bash", "mimetype": "text/x-sh", "file_extension": ".sh"}

    program = Unicode("bash", help="the shell that is started").tag(config=True)

    @property
    def banner(self):
        return subprocess.check_output([self.program, "--version"], text=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bash = subprocess.Popen(
            [self.program, "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.tell("trap : INT")  # an interrupt ends what bash runs, not bash

    def tell(self, code):
        self.bash.stdin.write(f"{code}\n")
        self.bash.stdin.flush()

    def read_to(self, mark, silent):
        """Show what comes, up to the mark; what stands behind it."""
        for line in self.bash.stdout:
            text, found, status = line.partition(mark)
            if text and not silent:
                content = {"name": "stdout", "text": text}
                self.send_response(self.iopub_socket, "stream", content)
            if found:
                return int(status)
        raise EOFError("bash has ended: restart the kernel")

    def do_execute(
        self,
        code,
        silent,
        store_history=True,
        user_expressions=None,
        allow_stdin=False,
    ):
        mark = uuid.uuid4().hex
        try:
            self.tell(f"{code}\necho {mark} $?")
            status = self.read_to(mark, silent)
        except KeyboardInterrupt:
            os.killpg(self.bash.pid, signal.SIGINT)
            self.read_to(mark, silent)
            return {"status": "abort", "execution_count": self.execution_count}
        if status:
            content = {"ename": "ExitStatus", "evalue": str(status), "traceback": []}
            if not silent:
                self.send_response(self.iopub_socket, "error", content)
            return {"status": "error", **content}
        return {"status": "ok"}

    def do_complete(self, code, cursor_pos):
        word = code[:cursor_pos].split(" ")[-1]
        asked = ["bash", "-c", 'compgen -abck -- "$1"', "bash", word]
        found = subprocess.run(asked, stdout=subprocess.PIPE, text=True)
        return {
            "matches": sorted(set(found.stdout.split())),
            "cursor_start": cursor_pos - len(word),
            "cursor_end": cursor_pos,
        }

    def do_shutdown(self, restart):
        self.bash.kill()
        self.bash.communicate()
        return {"status": "ok", "restart": restart}


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=PortedKernel)
