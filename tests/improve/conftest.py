"""Keras as the command line imports it: everything that it can use besides costs seconds in each process
that runs tests.
"""

import importlib.util

if importlib.util.find_spec("keras") is not None:
    from digitry.training.network.import_keras import import_keras

    import_keras()
