"""A peer: the preference comparisons of the library `imitation` (Gleave et al. 2022), as its tutorial has them.

It needs an older Gymnasium and stable-baselines3 than prefgym: `imitation_peer` runs in a venv of its own.

    python -m venv peer && peer/bin/pip install "numpy<2" imitation==1.0.1
    PREFGYM_IMITATION=peer/bin/python prefgym bench run smoke --methods imitation --out runs/peer
"""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark import imitation_peer
from prefgym.benchmark.methods import Ask, Scorer, View
from prefgym.benchmark.methods.ensemble import Book, Ensemble

PYTHON = "PREFGYM_IMITATION"
"""Of the environment: path of the Python that has imitation."""


class PeerError(RuntimeError):
    """The peer is not there, or failed; the message says what to do, or what it said."""


@dataclass(frozen=True)
class Imitation(Ensemble):
    """imitation's own network, loss and trainer, in its own venv; uniform queries, in the rounds of the ensembles."""

    tracks: tuple[str, ...] = ("offline",)
    kinds: tuple[str, ...] = ("control",)

    def fit(self, view: View, ask: Ask, budgets: Sequence[int], seed: int) -> Iterator[Scorer]:
        """See `Method.fit`.

        Raises:
            PeerError: there is no such venv, or imitation failed.
        """
        rng, book = np.random.default_rng(seed), Book(view)
        widths = view.observations.shape[2], view.actions.shape[2]
        with _peer() as call:
            call("begin", widths, seed)
            for budget in budgets:
                while (count := min(self.round(book), budget - len(book))) > 0:
                    pairs = self.choose(None, book, count, rng)  # type: ignore[arg-type]  # uniform asks no model
                    book.add(pairs, [self.heard(answer, rng) for answer in ask(pairs)])
                    learned, targets = book.lessons()
                    call("fit", *(book.segments(side) for side in learned.T), targets)
                rewards = partial(call, "rewards")
                yield Scorer(lambda seen, done, rewards=rewards: _returns(rewards, seen, done), rewards)  # type: ignore[misc]


def _returns(rewards: Any, seen: NDArray, done: NDArray) -> NDArray[np.float64]:
    return np.asarray(rewards(seen, done), float).sum(axis=-1)[None]


@contextmanager
def _peer() -> Iterator[Any]:
    """A function that has the peer's process do something: its name, and its arguments."""
    python = os.environ.get(PYTHON, "")
    if not Path(python).is_file():
        raise PeerError(
            f"the method imitation needs a venv of its own, and {PYTHON} to be its Python, got {python!r}: "
            'python -m venv peer && peer/bin/pip install "numpy<2" imitation==1.0.1'
        )
    command = [python, "-W", "ignore", imitation_peer.__file__]
    quiet = os.environ | {"TQDM_DISABLE": "1"}  # a bar for every fit
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet) as process:
        try:
            yield partial(_call, process)
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # of what a dead one has not read
                process.stdin.close()  # type: ignore[union-attr]


def _call(process: subprocess.Popen, name: str, *arguments: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump((name, arguments), process.stdin, protocol=4)
        process.stdin.flush()
        failure, value = pickle.load(process.stdout)
    except (BrokenPipeError, EOFError) as error:
        raise PeerError(f"imitation's process ended at {name!r}") from error
    if failure:
        raise PeerError(f"imitation failed at {name!r}: {failure}")
    return value
