"""It does not break: cancels, orders, fuzz, faults, load and attacks; see reliability.md."""
