"""What a forked process runs here: the code that it is given."""

import sys

exec(sys.argv[1], {"__name__": "__main__"})
