"""python -m trainer: the commands of this room alone."""

import sys

from alexnet import console
from trainer.arguments import COMMANDS

if __name__ == "__main__":
    sys.exit(console.run("python -m trainer", COMMANDS))
