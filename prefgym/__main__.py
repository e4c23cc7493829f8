"""`python -m prefgym`: the command line, also for launchers such as torchrun, which start modules."""

import os
import sys

from prefgym.scripts import main


def leave(code: int) -> None:
    """Ends this process; one of torchrun's without Python's own end, which now and then aborts it.

    Threads of PyTorch that want the interpreter while it ends are killed by it, and take the process with them
    (SIGABRT, pytorch#179291): torchrun would report a step as failed that has written all that it leaves.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
