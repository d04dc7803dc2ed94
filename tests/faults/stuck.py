"""Ways for a cell to be stuck, of which each is to end after a deadline."""

from __future__ import annotations

__all__ = ["HEARS_SIGNALS", "SETUP", "STUCK"]

SETUP = "import re, sqlite3, sys, time, trio\nkept = 'for hours'"
STUCK = {
    "an await whose errors are swallowed": (
        "while True:\n    try: await trio.sleep(0.05)\n    except Exception: pass"
    ),
    "a loop of awaits that swallows everything": (
        "turns = 0\n"
        "while turns < 10**9:\n"
        "    try: await trio.sleep(0.05)\n"
        "    except BaseException: turns += 1"
    ),
    "a thread": "await trio.to_thread.run_sync(time.sleep, 30)",
    "a shield": "with trio.CancelScope(shield=True):\n    await trio.sleep(1000)",
    "a clean-up that sleeps": "try: time.sleep(1000)\nfinally: time.sleep(1000)",
    "a clean-up in a clean-up": (
        "try:\n    try: time.sleep(1000)\n    finally: time.sleep(1000)\nfinally: time.sleep(1000)"
    ),
    "a finalizer that loses the interrupt": (
        "class Lost:\n"
        "    def __del__(self):\n"
        "        try: time.sleep(1000)\n"
        "        except KeyboardInterrupt: pass\n"
        "one = Lost()\n"
        "del one\n"
        "while True: time.sleep(0.001)"
    ),
    "a loop that swallows interrupts": (
        "while True:\n    try: time.sleep(0.001)\n    except (Exception, KeyboardInterrupt): pass"
    ),
    "a loop that swallows everything": (
        "while True:\n    try: sum(range(100))\n    except BaseException: pass"
    ),
    "a sleep in a loop that swallows everything": (
        "while True:\n    try: time.sleep(1000)\n    except: pass"
    ),
    "a loop that prints": "while True: print('x' * 3000)",
    "a regular expression": "re.match('(a+)+$', 'a' * 60 + 'b')",
    "a regular expression in a loop that swallows everything": (
        "while True:\n    try: re.match('(a+)+$', 'a' * 60 + 'b')\n    except: pass"
    ),
    "a power": "for base in range(3, 100): base ** 10 ** 8",
    "a regular expression in a clean-up": (
        "try: re.match('(a+)+$', 'a' * 60 + 'b')\nfinally: re.match('(a+)+$', 'a' * 60 + 'b')"
    ),
}
# Those in C code that keeps the interpreter lock
HEARS_SIGNALS = (
    "a regular expression",
    "a power",
    "a regular expression in a clean-up",
    "a regular expression in a loop that swallows everything",
)
