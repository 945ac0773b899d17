"""A run folder to pictures and a page."""

import os
import sys
from contextlib import suppress


def _import_matplotlib() -> None:
    """Import matplotlib, also where MPLBACKEND names a backend that it does not know.

    It would refuse to be imported there, although we draw without a backend. A valid one is set
    afterwards, for the plots of the user.
    """
    if "matplotlib" in sys.modules:
        return
    given = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if given is not None:
            os.environ["MPLBACKEND"] = given
    if given:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = given


_import_matplotlib()
