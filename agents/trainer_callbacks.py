"""Around a `transformers.Trainer`: a bar that only shows the loss, checkpoints by the clock, its own randomness."""

from __future__ import annotations

import logging
import math
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

SHARE = 0.03
"""Of the time, that checkpoints take at most."""

NO_NEWS = ("mtime may not be reliable", "There were missing keys in the checkpoint model loaded: ['lm_head.weight']")
"""What the Trainer warns of where all is well: two checkpoints within a second, and a head that is the embedding."""

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

    It also has the loss logged up to each checkpoint and to the end, which is how `training_loss` knows of every step.

    Args:
        seconds: between two checkpoints, at least; 0 keeps none by the clock.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.cost = seconds, 0.0
        self._last = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The clock starts."""
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks for a checkpoint when it is time; the last step needs none."""
        last = state.global_step >= state.max_steps
        if self.seconds and not last and self._due(time.monotonic(), args.world_size):
            control.should_save = True
        if control.should_save:
            self._last = time.monotonic()
        control.should_log |= control.should_save or last

    def _due(self, now: float, processes: int) -> bool:
        due = [now - self._last >= max(self.seconds, self.cost / SHARE)] * processes
        if processes > 1:  # each has its clock, and they save together
            dist.all_gather_object(due, due[0])
        return any(due)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes what a checkpoint costs."""
        now = time.monotonic()
        self.cost, self._last = now - self._last, now


def attach(trainer: Trainer, progress: bool, save_seconds: float) -> None:
    """Gives a trainer these callbacks in place of those that print.

    Args:
        trainer: whose they are.
        progress: whether to show a bar.
        save_seconds: see `Keeper`.
    """
    for talkative in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(talkative)
    if progress:
        trainer.add_callback(LossBar())
    trainer.add_callback(Keeper(save_seconds))


def training_loss(trainer: Trainer) -> float:
    """Mean loss over all steps of a training that has ended, those before it was gone on with included."""
    logged = [(int(entry["step"]), entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    steps = np.diff([0, *(step for step, _ in logged)])  # each is the mean of those since the one before
    return float(np.average([loss for _, loss in logged], weights=steps)) if logged else math.nan


def last_checkpoint(folder: str | Path) -> str | None:
    """The last whole checkpoint in a folder; one that a run was killed amid writing is removed, as none can go on."""
    found = {int(path.name.rpartition("-")[2]): path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*")}
    for step, path in list(found.items()):
        if not (path / LAST_WRITTEN).is_file():
            shutil.rmtree(found.pop(step))
    return str(found[max(found)]) if found else None


@contextmanager
def without_false_alarms() -> Iterator[None]:
    """Has the Trainer not say `NO_NEWS`."""
    loggers = [logging.getLogger(f"transformers.{name}") for name in ("trainer", "trainer_utils")]
    for logger in loggers:
        logger.addFilter(_is_news)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NO_NEWS)


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
