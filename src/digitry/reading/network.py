"""The networks of the package that find and read lines, run by ONNX Runtime."""

from importlib import resources
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry.errors import ModelError
from digitry.model.line_network import LineNetwork
from digitry.reading.runtime import session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Floats = npt.NDArray[np.float32]


class Session:
    """A network of one input and one output.

    Args:
        given: a .onnx file of the package, or one that `digitry train reader` wrote; or a
            loaded line network.
        threads: threads of one call.
        later: make it ready when it is first run; an error then comes only there. For the networks of
            the package, because a picture of one clear digit needs neither of them.

    Raises:
        ModelError: it cannot be run.
    """

    def __init__(self, given: Path | LineNetwork, *, threads: int = 1, later: bool = False) -> None:
        self._threads = threads
        self._source = given.reference if isinstance(given, LineNetwork) else str(given)
        try:
            self._content = given.onnx if isinstance(given, LineNetwork) else given.read_bytes()
        except OSError as error:
            raise self._cannot_be_run(error) from error
        self._lock = Lock()
        self._ready: tuple[InferenceSession, str] | None = None
        if not later:
            self.prepare()

    def prepare(self) -> "tuple[InferenceSession, str]":
        """Make the network ready, if it is not; return it, and the name of its input.

        Raises:
            ModelError: it cannot be run.
        """
        with self._lock:
            if self._ready is None:
                try:
                    made = session(self._content, threads=self._threads)
                    self._ready = made, made.get_inputs()[0].name
                except Exception as error:
                    # ONNX Runtime raises many private classes without a common base.
                    raise self._cannot_be_run(error) from error
            return self._ready

    def run(self, values: Floats) -> Floats:
        """Return the output for one batch."""
        ready, name = self.prepare()
        found: Floats = ready.run(None, {name: values})[0]
        return found

    def _cannot_be_run(self, error: Exception) -> ModelError:
        return ModelError(
            f"cannot be run ({str(error).splitlines()[0][:120]})",
            where=self._source,
            remedy="install digitry again",
        )


def shipped(name: str, *, threads: int = 1, later: bool = False) -> Session:
    """Return a network of the package: `finder` or `lines`."""
    with resources.as_file(resources.files("digitry") / "models" / f"{name}.onnx") as path:
        return Session(path, threads=threads, later=later)
