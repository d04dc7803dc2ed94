"""A small web server on Trio with a door in it: a person looks in from Jupyter while it serves."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

import trikernel


class App:
    """Greets whoever asks, and counts them."""

    def __init__(self):
        self.seen = Counter()

    async def greet(self, name):
        await trio.sleep(0.01)
        self.seen[name] += 1
        return f"hello {name}"

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        text = await self.greet(scope["path"].strip("/"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})


async def main(connection_file=None):
    app, stop, config = App(), trio.Event(), Config()
    config.bind = ["127.0.0.1:0"]
    async with (
        trikernel.embed(namespace=locals(), connection_file=connection_file),
        trio.open_nursery() as nursery,
    ):
        server = partial(serve, app, config, shutdown_trigger=stop.wait)
        print(*await nursery.start(server), flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
