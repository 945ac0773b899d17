"""Imports Keras alone, for a process in which nobody but us asks it for anything.

Keras 3 on PyTorch imports, in case it should be asked, scikit-learn for its wrappers, JAX for one kind
of checkpoint, matplotlib and OpenCV for drawing, and TorchDynamo, which our own loop never calls: three
seconds beside a third of a second for Keras itself. A program that uses Keras for itself, too, should
have it whole; so this is for the command line, not for the library.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_UNASKED = ("sklearn", "jax", "tensorflow", "matplotlib", "cv2", "pandas", "scipy")
"""What Keras does without where it is not installed, and what is hidden from it here."""

_DYNAMO = "torch._dynamo"


def import_keras() -> None:
    """Import Keras without what it imports on the chance; afterwards all of that is found again.

    If Keras is there already, whole, it stays so.
    """
    if "keras" in sys.modules:
        return
    import torch  # noqa: F401 (whole, before any of it is hidden)

    hidden: dict[str, Any] = {name: None for name in _UNASKED if name not in sys.modules}
    if _DYNAMO not in sys.modules:
        hidden[_DYNAMO] = _undecorated()
    sys.modules.update(hidden)
    try:
        from digitry.training.network import build  # noqa: F401 (it chooses the backend)
    except (ImportError, AttributeError):
        # A Keras that cannot do without them gets them, from whoever imports it next.
        for name in [name for name in sys.modules if name.split(".")[0] == "keras"]:
            del sys.modules[name]
    finally:
        for name in hidden:
            del sys.modules[name]


def _undecorated() -> ModuleType:
    """Return a TorchDynamo whose one decorator, which marks what is not to be compiled, does nothing."""

    def disable(function: Callable[..., Any] | None = None, **_: Any) -> Callable[..., Any]:
        return function if function is not None else lambda given: given

    module = ModuleType(_DYNAMO)
    module.disable = disable  # type: ignore[attr-defined]
    return module
