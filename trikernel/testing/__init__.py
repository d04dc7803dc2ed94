"""Testing kernels and notebooks: in memory, under a virtual clock, in milliseconds.

The fixtures are in `trikernel.testing.plugin`, which pytest loads automatically. The functions
behind them are here, for tests that need more than one kernel, or do not use the fixtures.
"""

from __future__ import annotations

from ..conformance import REQUIREMENTS, Requirement, Samples, assert_order, message_types
from .checkpoints import InjectedScope, at_every_checkpoint
from .client import CheckedClient
from .conformance import assert_conforms, assert_meets, requirements_of
from .serving import open_clients, open_memory_client

__all__ = [
    "REQUIREMENTS",
    "CheckedClient",
    "InjectedScope",
    "Requirement",
    "Samples",
    "assert_conforms",
    "assert_meets",
    "assert_order",
    "at_every_checkpoint",
    "message_types",
    "open_clients",
    "open_memory_client",
    "requirements_of",
]
