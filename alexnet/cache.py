"""Where the user's files are kept that can be had again."""

import os
from pathlib import Path

from alexnet.home import home

VARIABLE = "ALEXNET_CACHE"


def cache_folder() -> Path:
    """The folder, which need not exist: ALEXNET_CACHE, else `alexnet` below XDG_CACHE_HOME, if that
    is set, or ~/.cache. Raises UserError."""
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "alexnet"
