"""A kernel in 20 lines: it says back what it is told."""

import trikernel


class EchoKernel(trikernel.Kernel):
    implementation = "echo"
    implementation_version = "1.0"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}
    banner = "Echo: as useful as a parrot"

    async def do_execute(self, code, silent, **options):
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {"status": "ok"}


if __name__ == "__main__":
    trikernel.main(EchoKernel)
