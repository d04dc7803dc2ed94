"""How often something was tried, for the last lines of a test run."""

from __future__ import annotations

from collections import Counter

__all__ = ["injected", "lines", "orders"]

injected: Counter[str] = Counter()
orders: Counter[str] = Counter()


def lines() -> list[str]:
    """What to print at the end; nothing for what was not run."""
    found = []
    if injected:
        parts = ", ".join(f"{count} {name}" for name, count in injected.items())
        found.append(f"with a fault at a checkpoint {injected.total()} times: {parts}")
    if orders:
        found.append(
            f"{orders['seeds']} seeds of task order: {orders['runs']} runs,"
            f" {orders['batches']} batches of tasks shuffled"
        )
    return found
