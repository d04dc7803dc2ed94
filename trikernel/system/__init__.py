"""The process and its loops: what stands under everything else, and knows nothing of Jupyter."""

from __future__ import annotations

from .left_open import LeftOpen, close_what_was_left_open, is_anything_left_open

__all__ = ["LeftOpen", "close_what_was_left_open", "is_anything_left_open"]
