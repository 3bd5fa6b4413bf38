"""Where the user's files are kept that can be had again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder, which need not exist; below XDG_CACHE_HOME if that is set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"
