"""`python -m prefgym`: the command line, also for launchers such as torchrun, which start modules."""

import sys

from prefgym.scripts import main

if __name__ == "__main__":
    sys.exit(main())
