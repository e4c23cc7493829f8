"""The command line: `prefgym VERB`, one file a verb."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from prefgym.registry import Registry, UnknownNameError

verbs = Registry(
    "verb",
    {
        "backflip": "prefgym.scripts.backflip:main",
        "play": "prefgym.scripts.play:main",
        "evaluate": "prefgym.scripts.evaluate:main",
        "info": "prefgym.scripts.info:main",
    },
)
"""Name to `main(arguments) -> exit code`."""

HELP = """\
prefgym: teach robots and language models from human comparisons.

  prefgym backflip    teach a one-legged robot to do backflips, by comparisons
  prefgym play RUN    watch what it learned
  prefgym evaluate RUN    measure it, as JSON
  prefgym info RUN    what a run is, how far it got, how to go on

`prefgym VERB --help` lists the options of a verb."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(HELP)
        return 0
    try:
        return verbs[given[0]](given[1:])
    except UnknownNameError as error:
        return fail(error)


def fail(error: Exception) -> int:
    """One clear line on standard error, no traceback."""
    print(f"prefgym: {error}", file=sys.stderr)
    return 2
