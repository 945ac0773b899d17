"""The fixtures of the bulk tests: a small model and small images."""

from ..bulk.conftest import digits, model

__all__ = ["digits", "model"]
