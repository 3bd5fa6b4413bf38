"""What the commands of all stages answer with one line on stderr and exit status 2."""


class UserError(ValueError):
    """Something the user can put right; the text names file, value and remedy."""
