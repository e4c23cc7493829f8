"""Around a `transformers.Trainer`: a bar that only shows the loss, checkpoints by the clock, its own randomness."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

SHARE = 0.03
"""Of the time, that checkpoints take at most."""

LAST_WRITTEN = "trainer_state.json"
"""The file that the Trainer writes last into a checkpoint."""


class LossBar(ProgressCallback):
    """The Trainer's progress bar, with the loss beside it instead of a line of figures every few steps."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Shows the last loss."""
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")


class Keeper(TrainerCallback):
    """Has the Trainer keep a checkpoint from time to time, however long its steps and its checkpoints take.

    Args:
        seconds: between two checkpoints, at least.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.cost = seconds, 0.0
        self._last = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The clock starts."""
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks for a checkpoint when it is time; the last step needs none."""
        now = time.monotonic()
        if now - self._last >= max(self.seconds, self.cost / SHARE) and state.global_step < state.max_steps:
            control.should_save, self._last = True, now

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes what a checkpoint costs."""
        now = time.monotonic()
        self.cost, self._last = now - self._last, now


def attach(trainer: Trainer, progress: bool, save_seconds: float) -> None:
    """Gives a trainer these callbacks in place of those that print.

    Args:
        trainer: whose they are.
        progress: whether to show a bar.
        save_seconds: between checkpoints; 0 keeps none by the clock.
    """
    for talkative in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(talkative)
    if progress:
        trainer.add_callback(LossBar())
    if save_seconds:
        trainer.add_callback(Keeper(save_seconds))


def last_checkpoint(folder: str | Path) -> str | None:
    """The last whole checkpoint in a folder; one that a run was killed amid writing is removed, as none can go on."""
    found = {int(path.name.rpartition("-")[2]): path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*")}
    for step, path in list(found.items()):
        if not (path / LAST_WRITTEN).is_file():
            shutil.rmtree(found.pop(step))
    return str(found[max(found)]) if found else None


@contextmanager
def own_randomness() -> Iterator[None]:
    """Whatever seeds the global generators within, as the Trainer does, leaves those outside as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
