"""`trio.run` in a cell: a loop inside of the kernel's."""
