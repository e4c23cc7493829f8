"""The pace of training with people: it waits for their answers, and tells them what it does."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from prefgym.live import Live
from prefgym.pause import Patience
from prefgym.store import ANSWERED, OPEN

if TYPE_CHECKING:
    from prefgym.scripts.course import Course

logger = logging.getLogger(__name__)

PARENT = "PREFGYM_PARENT"
"""Environment variable: process id of the front end that started training, and without which it has no purpose."""

LOOK_SECONDS = 0.05  # between two looks for answers while waiting
TELL_SECONDS = 3.0  # between two episodes shown of the policy as it is now
SHOW_SHARE = 0.1  # at most, of the time that showing takes


class NoPace:
    """For teachers that answer at once: nothing waits."""

    def wait(self) -> None:
        """Goes on."""

    def tell(self, state: str) -> None:
        """Tells nobody."""


class Pace:
    """Holds training back while people are away, so that it does not over-optimise a reward that nobody corrects.

    After each answer it may go on for `LoopConfig.allowance` env steps; once all labels are given, to the end; and
    while nobody has anything to answer, until there is something. It also waits while a front end asks it to pause.

    Args:
        training: what is held back; `Course.stop_requested` is heeded while it waits.
    """

    def __init__(self, training: Course) -> None:
        self.training = training
        self._patience = Patience(training.run.folder)
        self._parent = int(os.environ.get(PARENT, 0))
        self._told, self._cost, self._state = -np.inf, 0.0, ""
        self._episode = (np.zeros((0, 0), np.float32), float("nan"))

    def wait(self) -> None:
        """Returns once the next rollout may be taken.

        Raises:
            Stopped: training was asked to stop, or the front end that started it has gone.
        """
        while not self._may_go_on():
            if not self._told_lately("waiting"):
                self.tell("waiting")
            time.sleep(LOOK_SECONDS)
            self._heed()
        self._heed()
        if not self._told_lately("training"):
            self.tell("training")

    def tell(self, state: str) -> None:
        """Writes live.npz for the front ends; one that cannot be written is only a pity."""
        began = time.monotonic()
        loop, folder = self.training.loop, self.training.run.folder
        if loop.explored and (self._stale or state == "finished"):
            self._show()
        try:
            Live(state, loop.steps, loop.config.steps, loop.config.labels, loop.session, *self._episode).write(folder)
        except OSError as error:
            logger.warning("The front ends cannot be told what training does: %s", error)
        self._state, self._told = state, time.monotonic()
        self._cost = self._told - began

    def _may_go_on(self) -> bool:
        if self._patience.holds():
            return False
        loop, asked = self.training.loop, self.training.store.asked()
        answers, trained = asked[ANSWERED], loop.steps - loop.explored
        if answers >= loop.config.labels or not asked[OPEN]:  # nobody can answer what was not asked
            return True
        return trained + loop.rollout <= answers * loop.config.allowance

    def _heed(self) -> None:
        if self._parent and os.getppid() != self._parent:
            logger.warning("The front end has gone: training stops and saves")
            self.training.stop_requested = True
        self.training.stop_if_requested()

    def _told_lately(self, state: str) -> bool:
        return state == self._state and not self._stale

    @property
    def _stale(self) -> bool:
        return time.monotonic() - self._told > max(TELL_SECONDS, self._cost / SHOW_SHARE)

    def _show(self) -> None:
        """Plays an episode of the policy as it is now."""
        self._episode = self.training.episode()
