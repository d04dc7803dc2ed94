"""trikernel's tests: the tree mirrors the package's."""
