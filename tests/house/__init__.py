"""The house: what the package's shape is held to, and a count of it (``python -m tests.house``)."""
