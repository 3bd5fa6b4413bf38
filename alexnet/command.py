"""How the commands of all stages answer mistakes: one line on stderr, exit status 2."""

import argparse
import sys
from typing import NoReturn

from pydantic import ValidationError


class UserError(ValueError):
    """Something the user can put right; the text names file, value and remedy."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong without repeating the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def run(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse, call the command's function (`run` of the parsed options), return its status."""
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        text = f"{place} is {first['input']!r}: {first['msg']}"
    except (UserError, OSError) as error:
        text = str(error)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    print(f"{parser.prog}: {text}", file=sys.stderr)
    return 2
