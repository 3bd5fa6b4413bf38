"""The home directory of whoever runs a command."""

import os
from pathlib import Path

from alexnet.command import UserError


def home() -> Path:
    """The directory at HOME, else that of the user's entry in /etc/passwd. Raises UserError where
    there is neither, as in a container that runs under a bare user number."""
    try:
        return Path.home()
    except RuntimeError:
        raise UserError(
            f"HOME is not set, and user {os.getuid()} has no entry in /etc/passwd; set HOME to a "
            "folder that this user may write, such as HOME=/tmp"
        ) from None
