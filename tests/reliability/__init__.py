"""It does not break: cancels, orders, fuzz, faults, load and attacks. See docs/reference/reliability.md."""
