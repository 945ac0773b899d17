"""Where this user's models, corrections and cached data lie."""

import os
import sys
from pathlib import Path


def corrections_file() -> Path:
    """Give the file in the user's data folder."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "digitry" / "corrections.db"


def user_models() -> Path | None:
    """Give the user's folder of models: `$DIGITRY_MODELS`, or the platform's place for data.

    Returns:
        The folder, which need not exist; None where this user has no home.
    """
    if os.environ.get("DIGITRY_MODELS"):
        return Path(os.environ["DIGITRY_MODELS"])
    if os.environ.get("XDG_DATA_HOME"):
        return Path(os.environ["XDG_DATA_HOME"]) / "digitry" / "models"
    try:
        home = Path.home()
    except RuntimeError:
        # A container's user without a name has none.
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "digitry" / "models"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(home))) / "digitry" / "models"
    return home / ".local" / "share" / "digitry" / "models"


def cache_dir() -> Path:
    """Give the folder of digitry's cache: `$XDG_CACHE_HOME/digitry`, or the platform's place."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "digitry"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "digitry"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "digitry" / "Cache"
    return Path.home() / ".cache" / "digitry"
