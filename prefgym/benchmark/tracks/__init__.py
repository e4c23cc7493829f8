"""Tracks: what is done with a cell. One file and one line of `tracks` each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefgym.benchmark.cells import Cell
from prefgym.benchmark.settings import Settings
from prefgym.registry import Registry

Run = Callable[[Cell, Settings], list[dict[str, Any]]]
"""Computes a cell: rows with budget, metric, stage, value and seconds, and what else of `results.COLUMNS` it has."""

tracks = Registry(
    "track",
    {
        "offline": "prefgym.benchmark.tracks.offline:run",
        "online": "prefgym.benchmark.tracks.online:run",
        "overoptimisation": "prefgym.benchmark.tracks.overoptimisation:run",
    },
)
"""Name to `Run`."""
