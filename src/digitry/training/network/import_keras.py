"""Imports Keras without its optional dependencies, for the command line only.

Keras 3 on PyTorch also imports scikit-learn for its wrappers, JAX for one kind of checkpoint,
matplotlib and OpenCV for drawing, and TorchDynamo, which our training loop never calls: together
three seconds, against 0.3 seconds for Keras itself. A program that also uses Keras itself may need
these features, so the library does not use this module.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_OPTIONAL = ("sklearn", "jax", "tensorflow", "matplotlib", "cv2", "pandas", "scipy")
"""Optional dependencies of Keras, hidden from its import here."""

_DYNAMO = "torch._dynamo"


def import_keras() -> None:
    """Import Keras without its optional dependencies; afterwards they can be imported as usual.

    Do nothing if Keras is imported already.
    """
    if "keras" in sys.modules:
        return
    import torch  # noqa: F401 (complete, before parts of it are hidden)

    hidden: dict[str, Any] = {name: None for name in _OPTIONAL if name not in sys.modules}
    if _DYNAMO not in sys.modules:
        hidden[_DYNAMO] = _dynamo_stub()
    sys.modules.update(hidden)
    try:
        from digitry.training.network import build  # noqa: F401 (it chooses the backend)
    except (ImportError, AttributeError):
        # This version of Keras needs them: the next import of Keras loads everything.
        for name in [name for name in sys.modules if name.split(".")[0] == "keras"]:
            del sys.modules[name]
    finally:
        for name in hidden:
            del sys.modules[name]


def _dynamo_stub() -> ModuleType:
    """Return a stand-in for TorchDynamo with its decorator `disable`, which does nothing here."""

    def disable(function: Callable[..., Any] | None = None, **_: Any) -> Callable[..., Any]:
        return function if function is not None else lambda given: given

    module = ModuleType(_DYNAMO)
    module.disable = disable  # type: ignore[attr-defined]
    return module
