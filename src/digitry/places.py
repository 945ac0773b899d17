"""Where this user's models, corrections and cached data lie, as each platform has it."""

import os
from pathlib import Path
from typing import Literal


def corrections_file() -> Path | None:
    """Return the file of corrections in the user's data folder; None where this user has no home."""
    folder = _folder("data")
    return None if folder is None else folder / "corrections.db"


def user_models() -> Path | None:
    """Return the user's folder of models: `$DIGITRY_MODELS`, or one in the user's data folder.

    Returns:
        The folder, which need not exist; None where this user has no home.
    """
    if os.environ.get("DIGITRY_MODELS"):
        return Path(os.environ["DIGITRY_MODELS"])
    folder = _folder("data")
    return None if folder is None else folder / "models"


def cache_dir() -> Path | None:
    """Return the folder of digitry's cache, which need not exist; None where this user has no home."""
    return _folder("cache")


def _folder(kind: Literal["data", "cache"]) -> Path | None:
    """Return digitry's folder in one of the user's places.

    Linux: `~/.local/share/digitry` (`$XDG_DATA_HOME/digitry`) and `~/.cache/digitry`; macOS: in
    `~/Library`; Windows: in `%LOCALAPPDATA%`.
    """
    # Here, so that the command line's help does without.
    from platformdirs import user_cache_path, user_data_path

    place = user_data_path if kind == "data" else user_cache_path
    try:
        folder = place("digitry", appauthor=False)
    except RuntimeError:
        # A container's user without a name has no home.
        return None
    # Older versions of platformdirs leave the `~` in the path then.
    return folder if folder.is_absolute() else None
