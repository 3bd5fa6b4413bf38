"""What a command of this room answers with one line."""

from alexnet.command import UserError


class RunError(UserError):
    """A run that cannot start or go on; the text names the value and the remedy."""
