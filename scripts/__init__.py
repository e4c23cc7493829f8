"""The command line: `prefgym VERB`, one file a verb."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from prefgym.registry import Registry, UnknownNameError

verbs = Registry(
    "verb",
    {
        "backflip": "prefgym.scripts.backflip:main",
        "teach": "prefgym.scripts.teach:main",
        "text": "prefgym.scripts.text:main",
        "sft": "prefgym.scripts.sft:main",
        "reward": "prefgym.scripts.reward:main",
        "ppo": "prefgym.scripts.ppo:main",
        "dpo": "prefgym.scripts.dpo:main",
        "bench": "prefgym.scripts.bench:main",
        "compare": "prefgym.scripts.compare:main",
        "label": "prefgym.scripts.label:main",
        "play": "prefgym.scripts.play:main",
        "evaluate": "prefgym.scripts.evaluate:main",
        "info": "prefgym.scripts.info:main",
        "report": "prefgym.scripts.report:main",
    },
)
"""Name to `main(arguments) -> exit code`."""

DEBUG = "PREFGYM_DEBUG"
"""Environment variable: if set, errors come with their traceback."""

HELP = """\
prefgym: teach robots and language models from human comparisons.

  prefgym backflip        teach a one-legged robot to do backflips, by comparisons
  prefgym teach           teach a robot anything, by clicks
  prefgym text            teach a language model: demonstrations, comparisons, PPO
  prefgym sft MODEL       one step of it, on data of yours: learn from demonstrations
  prefgym reward MODEL    another: fit a reward model to rankings
  prefgym ppo MODEL       another: PPO on a reward model, or on a function
  prefgym dpo MODEL       another: prefer what rankings prefer, without a reward model
  prefgym compare A B     let two language models answer, and a judge say, blind, which is better
  prefgym bench           how few comparisons does a reward model need? the benchmark
  prefgym label RUN       answer which of two clips is better: window, browsers, or terminal
  prefgym play RUN        watch what it learned
  prefgym evaluate RUN    measure it, as JSON
  prefgym info RUN        what a run is, how far it got, how to go on
  prefgym report RUN      write its report again, also while it goes on

`prefgym VERB --help` lists the options of a verb."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code: 0, 2 after a user's mistake, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(HELP)
        return 0
    logging.basicConfig(format="prefgym: %(message)s", level=logging.WARNING)
    try:
        return verbs[given[0]](given[1:])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if DEBUG in os.environ or not _is_clear(error):
            raise
        print(f"prefgym: {error}", file=sys.stderr)
        return 2


def _is_clear(error: Exception) -> bool:
    """Whether the message alone tells what to do: then a traceback would only hide it."""
    if isinstance(error, ValueError | UnknownNameError | FloatingPointError | OSError):
        return True
    return type(error).__module__.startswith("prefgym.")
