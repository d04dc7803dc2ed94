"""A kernel of an author's, without Python inside: what starting one costs."""

import sys

import trikernel


class Echo(trikernel.Kernel):
    """Says what it is told."""

    async def do_execute(self, code, silent, **options):  # type: ignore[no-untyped-def]
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})


trikernel.main(Echo, sys.argv[1:])
