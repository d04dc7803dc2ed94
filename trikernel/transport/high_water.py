"""How many messages libzmq may hold for one subscriber, so that they are never too many bytes.

What is wanted
    A subscriber that does not read costs a bounded number of bytes, whatever the size of the
    messages; one that reads is never taken for one that does not.

What does not work
    libzmq's high-water mark (``SNDHWM``) counts messages: 1000 of 1 MB are a gigabyte. To set it
    to ``limit / size`` before each send stops a subscriber that has read everything: libzmq knows
    what was read only from time to time, each time half of the mark has been read. After 400
    messages under a mark of 1000 it has heard nothing, and under a mark of 16 it takes the
    subscriber for full. As nothing is left to be read, nothing will ever change that.

What is done
    The mark is lowered by halves, and only as far as what libzmq may not have heard of yet still
    fits below it: `HighWater` keeps count of that (``unheard``, messages). It is raised again
    when a message is refused although more of that size would fit into the limit, so small
    messages have as much room as they had before.

    ======  =============================  =========================================
    mark    heard of each ... messages     reached
    ======  =============================  =========================================
    128     64                             small messages, when the mark below is full
    16      8                              at the start
    8       4                              1 MB messages, at once
    2       1                              larger messages, after a few of them
    ======  =============================  =========================================

What remains
    The mark cannot be lowered at once, so of the first messages above a megabyte up to eight are
    taken, of the first ones after a burst of small ones up to 64. A subscriber that takes only
    some topics reads only some of the messages, of which nobody here knows the number: as soon as
    there is one, the mark stays where it was highest. A message that is larger than the limit is
    sent all the same; two of them may wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

__all__ = ["BEYOND", "START", "HighWater"]

START = 16  # messages: the mark that a socket must have when it is bound, and new subscribers get
MOST = 128  # messages
BEYOND = 2 * MOST  # messages: more than any queue holds
LEAST = 2  # messages
LIMIT = 8 << 20  # bytes
IN_PASSING = 16 << 10  # bytes that may be read between the setting of a mark and its holding
KEPT = 4  # times its own number of messages for which a mark above `START` is kept


class HighWater:
    """The mark of one socket, which was bound with `START`. Not thread-safe.

    ``set_mark`` sets the socket's ``SNDHWM``, which holds for subscribers that are there already.
    """

    def __init__(self, set_mark: Callable[[int], None]) -> None:
        self.mark = START
        self._set_mark = set_mark
        self._sizes: deque[int] = deque(maxlen=MOST)
        self._bytes = 0  # of the last `mark - 1` messages
        self._unheard = START // 2 - 1  # messages, at most, that were read without libzmq's knowing
        self._since = 0  # messages sent while the mark held
        self._in_passing = 0  # bytes to be sent until it holds for sure
        self._highest = START
        self._fixed = False

    def count(self, size: int) -> None:
        """A message of ``size`` bytes is to be sent: lower the mark if it has to be, and may."""
        mark, sizes = self.mark, self._sizes
        if self._bytes + size > LIMIT:
            if mark > LEAST:
                self._lower()
        elif mark > START and self._since > KEPT * mark:
            self._lower()
        others = self.mark - 1
        self._bytes += size
        if len(sizes) >= others:
            self._bytes -= sizes[-others]
        sizes.append(size)
        if self._in_passing > 0:
            self._in_passing -= size
        else:
            self._since += 1

    def raise_mark(self) -> bool:
        """It was refused: whether the mark is higher now, and it is worth another try."""
        higher = self.mark * 2
        if higher > MOST or self._fixed or self._sum(higher) > LIMIT:
            return False
        self._change(higher)
        return True

    def count_back(self) -> None:
        """It is not sent after all."""
        self._sizes.pop()
        self._bytes = self._sum(self.mark - 1)
        self._since = max(0, self._since - 1)

    def subscriber_came(self, topic: bytes) -> None:
        """A subscription was received. A new subscriber has `START` as its mark until then."""
        if self._fixed:
            self._change(self.mark)
        elif topic:
            self._change(self._highest)
            self._fixed = True
        else:
            self._change(max(self.mark, START))

    def _lower(self) -> None:
        half = self.mark // 2
        if self._since >= half:
            self._unheard = min(self._unheard, half - 1)
        if self._unheard < half and not self._fixed:
            self._change(half)

    def _change(self, mark: int) -> None:
        self.mark = mark
        self._set_mark(mark)
        self._bytes = self._sum(mark - 1)
        self._unheard = max(self._unheard, mark // 2 - 1)
        self._highest = max(self._highest, mark)
        self._since, self._in_passing = 0, IN_PASSING

    def _sum(self, count: int) -> int:
        """The bytes of the last messages."""
        return sum(islice(reversed(self._sizes), count))
