"""The debugger: over the wire on a real process, and in memory with an adapter of the test's."""
