"""Async calls on a cluster of two engines: many at once, with a limit, a deadline and a cancel."""

import trio

from trikernel.engine import open_cluster, within


async def fetch(number):
    import trio

    await trio.sleep(0.2)  # a request to some server
    return number * number


def count(n):
    while n:
        n -= 1
    return "counted"


async def main():
    async with open_cluster(2) as view:
        squares = await view.map(fetch, range(40), limit=20)
        print("sum:", sum(squares))
        with trio.move_on_after(1) as scope:
            await view.apply(count, 10**12)
        print("cancelled:", scope.cancelled_caught)
        try:
            await view.apply(within(0.5, count), 10**12)
        except Exception as error:
            print("too late:", "DeadlineExceeded" in str(error))
        print("and on:", await view.apply_all(count, 10))


if __name__ == "__main__":
    trio.run(main)
