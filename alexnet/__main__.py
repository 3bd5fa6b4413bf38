"""python -m alexnet: the console command `alexnet`."""

import sys

from alexnet.console import main

if __name__ == "__main__":  # decoder processes import it too
    sys.exit(main())
