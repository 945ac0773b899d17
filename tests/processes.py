"""Processes that tests start to do the same at once."""

import multiprocessing
from multiprocessing.context import BaseContext

_NEEDED = [
    "pytest", "numpy", "PIL.Image", "digitry.model.versions", "digitry.corrections.store",
    "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "alembic.command",
]  # fmt: skip
"""What they import; a missing extra is passed over."""


def forked() -> BaseContext:
    """Return a context whose processes are forks of one that has imported what they need.

    A spawned process would import it by itself, which takes a second. Their environment is that of the
    first test that asked for one.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_NEEDED)
    return context
