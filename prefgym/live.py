"""What training is doing now, told to whoever labels meanwhile: one small file in the run folder."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

NAME = "live.npz"
PAUSE = "pause"
"""A file of this name in the run folder pauses training; see `prefgym.pause`."""

STATES = ("exploring", "training", "waiting", "finished", "stopped")


@dataclass(frozen=True, eq=False)
class Live:
    """A moment of training.

    Attributes:
        state: exploring, training, waiting (for answers), finished or stopped.
        steps: env steps taken.
        total_steps: env steps to take, in all.
        labels: comparisons wanted, in all.
        session: of the loop, the last one held.
        qpos: [T, nq] an episode of the policy as it is now; T is 0 before the first.
        clean_backflips: in that episode; nan where nobody counts them.
        updated: seconds since 1970.
    """

    state: str
    steps: int
    total_steps: int
    labels: int
    session: int = 0
    qpos: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    clean_backflips: float = float("nan")
    updated: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"`state` must be one of {', '.join(STATES)}, got {self.state!r}")

    def write(self, folder: str | PathLike[str]) -> None:
        """Replaces the folder's live.npz as a whole.

        Raises:
            OSError: it cannot be written.
        """
        part = Path(folder) / (NAME + ".part")
        with open(part, "wb") as file:
            np.savez(file, **vars(self))
        os.replace(part, Path(folder) / NAME)

    @classmethod
    def read(cls, folder: str | PathLike[str]) -> Live | None:
        """What the folder's live.npz says; None where there is none, or none that can be read."""
        try:
            with open(Path(folder) / NAME, "rb") as whole, np.load(whole, allow_pickle=False) as file:
                facts = {name: file[name] if name == "qpos" else file[name].item() for name in file.files}
            return cls(**facts)
        except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile):
            return None
