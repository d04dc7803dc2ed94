"""In the place of a package of that name, which jsonschema can do without.

It compiles 38 grammars when it is imported, which takes a processor 3 s, in each process that
imports nbformat; for formats of addresses that no notebook has.
"""

raise ImportError("left out by trikernel's tests")
