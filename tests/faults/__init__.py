"""Faults that users have met, each held by a test from outside: over sockets, or in memory."""
