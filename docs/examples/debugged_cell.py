"""A cell to set a breakpoint in: see how to debug a notebook."""

import trio

total = 0


async def add(number):
    global total
    await trio.sleep(number / 100)
    total += number


async with trio.open_nursery() as nursery:
    for number in range(1, 4):
        nursery.start_soon(add, number)
print(total)
