"""Where the user's files are kept that can be had again."""

import os
from pathlib import Path

from alexnet.home import home


def cache_folder() -> Path:
    """The folder, which need not exist: ALEXNET_CACHE, or below XDG_CACHE_HOME if that is set.
    Raises UserError."""
    if named := os.environ.get("ALEXNET_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "alexnet"
