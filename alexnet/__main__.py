"""python -m alexnet: the console command `alexnet`."""

import sys

from alexnet.console import main

sys.exit(main())
