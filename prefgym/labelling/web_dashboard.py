"""What the labelling page shows beside the clips: who answered what, how training goes, and whether it is to pause."""

from __future__ import annotations

import csv
import logging
import threading
import time as clock
from collections import Counter
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from prefgym.labelling import quality
from prefgym.labelling.web_clips import Clips, compact
from prefgym.live import Live
from prefgym.pause import Pause
from prefgym.runs import Run, RunError
from prefgym.store import Entry, Store

logger = logging.getLogger(__name__)

FRESH = 1.0
"""Seconds for which statistics are good enough."""

SHARE = 0.1
"""Of one core's time that counting may take: with many answers it is done less often, as answering comes first."""

SHOWN = 20
"""Points of the agreement's curve, the last ones."""

CURVES = ("steps", "labels", "clean_backflips", "reward_correlation")
POINTS = 400
"""Sessions of training that are shown, the last ones."""


class Dashboard:
    """Statistics of a store and of the run that asks; safe for threads.

    Args:
        store: holds the answers.
        run: folder of the run; None if there is none to look at.
        time: seconds since 1970.

    Attributes:
        pause: of the run.
    """

    def __init__(self, store: Store, run: Path | None = None, time: Callable[[], float] = clock.time) -> None:
        self.store, self.run, self._time = store, run, time
        self.pause = Pause(run)
        self._clips = Clips()
        self._locks = {name: threading.Lock() for name in ("statistics", "live")}
        self._statistics, self._until = "", 0.0
        self._live, self._seen = "null", 0.0
        self._rows: list[dict[str, Any]] = []

    def statistics(self) -> str:
        """All statistics as JSON text, a second old or, with very many answers, a few; see docs/api.md."""
        with self._locks["statistics"]:
            if not self._statistics or self._time() >= self._until:
                began = clock.perf_counter()
                self._statistics = compact(finite(self._count()))
                self._until = self._time() + max(FRESH, (clock.perf_counter() - began) / SHARE)
            return self._statistics

    def live(self) -> str:
        """What the robot does now, and whether training is asked to pause, as JSON text."""
        live = Live.read(self.run) if self.run else None
        with self._locks["live"]:
            if live is not None and live.updated != self._seen:
                self._live = compact(finite(self._training(live) | {"clip": self._clip(live)}))
                self._seen = live.updated
            return f'{{"live":{self._live},"paused":{compact(self.pause.asked)}}}'

    def _count(self) -> dict[str, Any]:
        entries, now = self.store.ledger(), self._time()
        live = Live.read(self.run) if self.run else None
        current = quality.current(entries)
        return {
            "given": len({entry.query_id for entry in current}),
            "wanted": live.labels if live else self._options().get("loop", {}).get("labels"),
            "per_minute": quality.per_minute(entries, now),
            "median_seconds": quality.median_seconds(entries),
            "agreement": quality.agreement_curve(entries)[-SHOWN:],
            "kappa": quality.cohen_kappa(entries),
            "left": quality.left_share(entries),
            "consistency": quality.self_consistency(entries),
            "annotators": _people(entries, current, now),
            "training": self._training(live) if live else None,
            "paused": self.pause.asked,
            "curves": self._curves(),
        }

    def _training(self, live: Live) -> dict[str, Any]:
        names = ("state", "steps", "total_steps", "session", "clean_backflips", "updated")
        return {name: getattr(live, name) for name in names}

    def _clip(self, live: Live) -> dict[str, Any] | None:
        return self._clips.robot(str(self._options().get("env_id", "")), live.qpos)

    def _options(self) -> dict[str, Any]:
        try:
            return Run.open(self.run).options if self.run else {}
        except RunError as error:
            logger.debug("no options: %s", error)
            return {}

    def _curves(self) -> dict[str, list[Any]]:
        """Columns of metrics.csv; a row that is just being written is left for the next time."""
        try:
            self._rows = Run(self.run).metrics()[-POINTS:] if self.run else []
        except (OSError, TypeError, csv.Error) as error:
            logger.debug("metrics.csv as it was: %s", error)
        return {name: [_number(row.get(name)) for row in self._rows] for name in CURVES}


def finite(data: Any) -> Any:
    """The same with None for every number that JSON cannot hold."""
    if isinstance(data, dict):
        return {name: finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data


def _people(entries: Sequence[Entry], current: Sequence[Entry], now: float) -> list[dict[str, Any]]:
    """A row for each annotator, who gave most answers first."""
    right, counts = quality.reliability(entries), Counter(entry.annotator for entry in current)
    rows = []
    for name, answers in counts.most_common():
        mine = [entry for entry in entries if entry.annotator == name]
        pace = {"per_minute": quality.per_minute(mine, now), "median_seconds": quality.median_seconds(mine)}
        rows.append({"annotator": name, "answers": answers, "reliability": right.get(name), **pace})
    return rows


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None
