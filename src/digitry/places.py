"""The folders of the user's models, corrections, data and cached data, by platform."""

import os
from pathlib import Path
from typing import Literal


def corrections_file() -> Path | None:
    """Return the file of corrections in the user's data folder; None if the user has no home."""
    folder = _folder("data")
    return None if folder is None else folder / "corrections.db"


def user_models() -> Path | None:
    """Return the user's folder of models: `$DIGITRY_MODELS`, or one in the user's data folder.

    Returns:
        The folder, which may not exist; None if the user has no home.
    """
    if os.environ.get("DIGITRY_MODELS"):
        return Path(os.environ["DIGITRY_MODELS"])
    folder = _folder("data")
    return None if folder is None else folder / "models"


def cache_dir() -> Path | None:
    """Return digitry's cache folder, which may not exist; None if the user has no home."""
    return _folder("cache")


def data_folder(data_dir: Path | None) -> Path | None:
    """Return the folder of data that is named: `data_dir`, else `$DIGITRY_DATA`; None if neither is."""
    named = data_dir or os.environ.get("DIGITRY_DATA")
    return Path(named).expanduser() if named else None


def _folder(kind: Literal["data", "cache"]) -> Path | None:
    """Return digitry's folder for data or cache.

    Linux: `~/.local/share/digitry` (`$XDG_DATA_HOME/digitry`) and `~/.cache/digitry`; macOS: in
    `~/Library`; Windows: in `%LOCALAPPDATA%`.
    """
    # Imported here to keep the command line's help fast.
    from platformdirs import user_cache_path, user_data_path

    place = user_data_path if kind == "data" else user_cache_path
    try:
        folder = place("digitry", appauthor=False)
    except RuntimeError:
        # In a container, a user id without a name has no home.
        return None
    # For such a user, older versions of platformdirs return a path that starts with `~`.
    return folder if folder.is_absolute() else None
