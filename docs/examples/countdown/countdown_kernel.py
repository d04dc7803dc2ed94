"""A kernel that counts down: a cell is a number of seconds."""

import trio

import trikernel


class CountdownKernel(trikernel.Kernel):
    implementation = "countdown"
    implementation_version = "1.0"
    language_info = {"name": "countdown", "mimetype": "text/plain", "file_extension": ".txt"}

    left = 0

    def say(self, text):
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": f"{text}\n"})

    async def do_execute(self, code, silent, **options):
        try:
            for self.left in range(int(code or 0), 0, -1):
                self.say(self.left)
                await trio.sleep(1)
        except trio.Cancelled:
            self.say("aborted")
            raise
        self.say("lift-off")
        return {"status": "ok"}

    @trikernel.message_type(beside_cells=True)
    def left_request(self, request):
        return {"status": "ok", "left": self.left}


if __name__ == "__main__":
    trikernel.main(CountdownKernel)
