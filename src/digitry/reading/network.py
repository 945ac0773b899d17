"""The networks of the package that find and read lines, run by ONNX Runtime."""

from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digitry.errors import ModelError
from digitry.model.line_network import LineNetwork
from digitry.reading.runtime import session

Floats = npt.NDArray[np.float32]


class Session:
    """A network of one input and one output.

    Args:
        given: a .onnx file of the package, or one that `digitry train reader` wrote; or a
            loaded line network.
        threads: threads of one call.

    Raises:
        ModelError: it cannot be run.
    """

    def __init__(self, given: Path | LineNetwork, *, threads: int = 1) -> None:
        self.source = given.reference if isinstance(given, LineNetwork) else str(given)
        try:
            content = given.onnx if isinstance(given, LineNetwork) else given.read_bytes()
            self._session = session(content, threads=threads)
        except Exception as error:
            # ONNX Runtime raises many private classes without a common base.
            raise ModelError(
                f"cannot be run ({str(error).splitlines()[0][:120]})",
                where=self.source,
                remedy="install digitry again",
            ) from error
        self._input = self._session.get_inputs()[0].name

    def run(self, values: Floats) -> Floats:
        """Return the output for one batch."""
        found: Floats = self._session.run(None, {self._input: values})[0]
        return found


def shipped(name: str, *, threads: int = 1) -> Session:
    """Return a network of the package: `finder` or `lines`."""
    with resources.as_file(resources.files("digitry") / "models" / f"{name}.onnx") as path:
        return Session(path, threads=threads)
