"""TensorBoard curves for SB3's logger, in a file that a full disk or a resumed run cannot spoil."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from stable_baselines3.common.logger import KVWriter, Logger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

logger = logging.getLogger(__name__)


class Curves(KVWriter):
    """Writes SB3's numbers to a TensorBoard folder; if it cannot, it says so once, and training goes on.

    SB3's own writer works in a thread, whose errors reach nobody in time.

    Args:
        folder: of the log; made by the first write.
        since: env steps from which on earlier curves in the folder are hidden: what came after a
            checkpoint comes again.
    """

    def __init__(self, folder: Path, since: int = 0) -> None:
        self._folder, self._since = folder, since
        self._file: BinaryIO | None = None
        self._broken = False

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Writes all numbers among the values at this step."""
        numbers = {name: float(value) for name, value in key_values.items() if isinstance(value, int | float)}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _add(self, event: Event) -> None:
        if self._broken:
            return
        try:
            file = self._file or self._begin()
            RecordWriter(file).write(event.SerializeToString())
            file.flush()
        except OSError as error:
            self._broken = True
            logger.warning("TensorBoard's log cannot be written any more: %s", error)

    def _begin(self) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000}.{os.getpid()}"
        self._file = (self._folder / name).open("wb", buffering=0)
        writer = RecordWriter(self._file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        if self._since:
            hidden = Event(wall_time=time.time(), step=self._since, session_log=SessionLog(status=SessionLog.START))
            writer.write(hidden.SerializeToString())
        return self._file

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def make_logger(folder: Path, since: int = 0) -> Logger:
    """A logger for `agent.set_logger`."""
    return Logger(str(folder), output_formats=[Curves(folder, since)])
