"""Training paused by a front end, for as long as that is there: a file in the run folder that it keeps touching."""

from __future__ import annotations

import logging
import os
import threading
import time as clock
from collections.abc import Callable
from pathlib import Path

from prefgym.live import PAUSE

logger = logging.getLogger(__name__)

BEAT = 2.0
"""Seconds between two touches of the file by who asked."""

GONE = 20.0
"""Seconds without a touch, after which who asked must have been killed, or have lost the folder."""


class NoRunError(LookupError):
    """There is no training whose pause could be asked for."""


class Pause:
    """Asks training to pause, and keeps asking until it is to go on; safe for threads.

    Args:
        run: folder of the run; None if there is none.
    """

    def __init__(self, run: Path | None) -> None:
        self._file = run / PAUSE if run else None
        self._beating: threading.Event | None = None  # set, it ends the thread that touches the file

    @property
    def asked(self) -> bool | None:
        """Whether training is asked to pause, here or by another front end; None without a run."""
        return self._file.exists() if self._file else None

    def ask(self, paused: bool) -> None:
        """Asks training to pause, or to go on.

        Raises:
            NoRunError: there is no run.
            OSError: the run folder cannot be written.
        """
        if self._file is None:
            raise NoRunError("There is no training here to pause: only the store's answers are asked for.")
        self._stop()  # it may have ended, if somebody else let training go on since
        if not paused:
            self._file.unlink(missing_ok=True)
            return
        self._file.write_text(f"by process {os.getpid()}, while it lives\n")
        self._beating = threading.Event()
        arguments = (self._file, self._beating)
        threading.Thread(target=_keep_touching, args=arguments, name="pause", daemon=True).start()

    def end(self) -> None:
        """Lets training go on if it was paused here, as nobody is left who could.

        Raises:
            OSError: the run folder cannot be written.
        """
        if self._beating is not None:
            self.ask(False)

    def _stop(self) -> None:
        if self._beating is not None:
            self._beating.set()
            self._beating = None


class Patience:
    """Training's side: whether it is to wait.

    A front end that was killed cannot take its file away. A file that nobody touches any more is removed; but one that
    is empty was made by hand (`touch RUN/pause`), and stays. Times are this process's own, as clocks may differ.

    Args:
        run: folder of the run.
        time: seconds, from whenever.
    """

    def __init__(self, run: Path, time: Callable[[], float] = clock.monotonic) -> None:
        self._file, self._time = run / PAUSE, time
        self._touched, self._seen = 0, 0.0

    def holds(self) -> bool:
        """Whether training is asked to pause, by somebody who is still there."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return False
        if found.st_mtime_ns != self._touched:
            self._touched, self._seen = found.st_mtime_ns, self._time()
        if not found.st_size or self._time() - self._seen < GONE:
            return True
        logger.warning("The front end that paused training has gone: it goes on")
        self._file.unlink(missing_ok=True)
        return False


def _keep_touching(file: Path, end: threading.Event) -> None:
    """Until the end, or until somebody else has let training go on."""
    while not end.wait(BEAT):
        try:
            os.utime(file)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("Training cannot be kept waiting: %s", error)
