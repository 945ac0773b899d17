"""The small model and pictures of the tests of bulk reading serve here, too."""

from ..bulk.conftest import digits, model

__all__ = ["digits", "model"]
