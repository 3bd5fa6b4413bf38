"""python -m pipeline: the commands of this room alone."""

import sys

from alexnet import console
from pipeline.arguments import COMMANDS

if __name__ == "__main__":
    sys.exit(console.run("python -m pipeline", COMMANDS))
