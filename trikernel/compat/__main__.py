"""``python -m trikernel.compat MODULE -f FILE``: runs a kernel that was written for ipykernel."""

from __future__ import annotations

import sys

from .launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
