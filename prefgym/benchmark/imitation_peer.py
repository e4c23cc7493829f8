"""What imitation does for the method `imitation`, in a venv of its own; nothing of prefgym is imported here.

It is told what to do on its standard input, and says on its standard output what came of it, both pickled. Its modules
are imported by name, since where prefgym is installed they are not.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from importlib import import_module
from typing import Any

COMPARISONS = "imitation.algorithms.preference_comparisons"

EPOCHS, FIRST = 3, 4.0
"""Passes over all answers at a fit, and how many times as many the first has: imitation's tutorial 5."""


class Peer:
    """imitation's reward network and trainer."""

    def begin(self, widths: tuple, seed: int) -> None:
        """Makes them, for observations and actions of these widths."""
        import gymnasium as gym
        import numpy as np
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        spaces = [gym.spaces.Box(-np.inf, np.inf, (width,), np.float32) for width in widths]
        normalise = import_module("imitation.util.networks").RunningNorm
        nets, comparisons = import_module("imitation.rewards.reward_nets"), import_module(COMPARISONS)
        self.network = nets.BasicRewardNet(*spaces, normalize_input_layer=normalise)
        model = comparisons.PreferenceModel(self.network)
        loss, rng = comparisons.CrossEntropyRewardLoss(), np.random.default_rng(seed)
        self.trainer = comparisons.BasicRewardTrainer(model, loss, rng, epochs=EPOCHS)
        self.fits = 0

    def fit(self, first: tuple, second: tuple, targets: Any) -> None:
        """Goes on from the last fit, with all answers: observations [B, T, O], actions [B, T, A], P(first) [B]."""
        import numpy as np

        if not len(targets):
            return
        dataset = import_module(COMPARISONS).PreferenceDataset()
        dataset.push(list(zip(fragments(*first), fragments(*second), strict=True)), np.asarray(targets, np.float32))
        self.trainer.train(dataset, epoch_multiplier=1.0 if self.fits else FIRST)
        self.fits += 1

    def rewards(self, observations: Any, actions: Any) -> Any:
        """Rewards [...] of observations [..., O] and actions [..., A]."""
        import numpy as np

        seen, done = (array.reshape(-1, array.shape[-1]) for array in (observations, actions))
        said = self.network.predict_processed(seen, done, seen, np.zeros(len(seen), bool))
        return said.reshape(observations.shape[:-1])


def fragments(observations: Any, actions: Any) -> list:
    """imitation's trajectories have one observation more, which its network does not look at by default."""
    import numpy as np

    made = import_module("imitation.data.types").TrajectoryWithRew
    return [
        made(np.concatenate([seen, seen[-1:]]), done, None, False, np.zeros(len(done)))
        for seen, done in zip(observations, actions, strict=True)
    ]


def main() -> None:
    """Does what it is told until its standard input ends."""
    said = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not said
    peer = Peer()
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = "", getattr(peer, name)(*arguments)
        except Exception:  # whatever it is, the one who asked hears of it
            answer = traceback.format_exc(), None
        pickle.dump(answer, said, protocol=4)
        said.flush()


if __name__ == "__main__":
    main()
