"""python -m serving: the server, or with the word `classify` a command of this room."""

import sys

from alexnet import console
from serving.arguments import COMMANDS

PROGRAM = "python -m serving"


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["index"]:
        from alexnet.similar import COMMAND  # and torch, which the client need not load

        print(f"{PROGRAM} index: this is now `{COMMAND}`, with the extra `train`", file=sys.stderr)
        return 2
    if arguments[:1] and arguments[0] in COMMANDS.by_name:
        return console.run(PROGRAM, COMMANDS, arguments=arguments)
    return console.run_one(PROGRAM, "serve", COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
