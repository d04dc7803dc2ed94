import select
import sys

if sys.platform == "linux":
    LOOP = select.epoll()
