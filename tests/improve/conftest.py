"""What tests of retraining share.

Keras is imported as the command line does: everything that it can use besides costs seconds in each
process that runs tests.
"""

import importlib.util
from pathlib import Path

import pytest

if importlib.util.find_spec("keras") is not None:
    from digitry.training.network.import_keras import import_keras

    import_keras()


@pytest.fixture(scope="session")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for composed glyphs: every training of these tests composes the same."""
    return tmp_path_factory.mktemp("composed")
