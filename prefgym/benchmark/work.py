"""What processes do for the benchmark, here or on another machine: make a pool, and compute a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prefgym.benchmark.cells import Cell
from prefgym.benchmark.pools import load_pool, pool_path, read_pool
from prefgym.benchmark.results import Row, provenance
from prefgym.benchmark.settings import Settings
from prefgym.benchmark.tasks import tasks
from prefgym.pages import write_whole


class Shipped(NamedTuple):
    """A pool on its way to another machine: PPO makes a slightly different one on another kind of processor.

    Attributes:
        file: what it is kept as.
        checksum: of the pool.
    """

    file: bytes
    checksum: str


def compute(cell: Cell, settings: Settings) -> list[Row]:
    """The rows of a cell with their provenance, in the present process, by one thread."""
    from prefgym.benchmark.tracks import tracks

    _get_ready()
    return [{**provenance(), **row} for row in tracks[cell.track](cell, settings)]


def compute_shipped(cell: Cell, settings: Settings, pools: Mapping[str, Shipped]) -> list[Row]:
    """The same where the task's pool may not be yet."""
    receive(cell.task, settings, pools[cell.task])
    return compute(cell, settings)


def pool_checksum(task: str, settings: Settings) -> str:
    """The checksum of a task's pool, which is made if it is not in the cache."""
    if not pool_path(tasks[task], settings.pool).exists():
        _get_ready()
    return load_pool(tasks[task], settings.pool).checksum


def pool_file(task: str, settings: Settings) -> bytes:
    """A task's pool as its file, made first if it is not in the cache."""
    pool_checksum(task, settings)
    return pool_path(tasks[task], settings.pool).read_bytes()


def ship(names: Iterable[str], settings: Settings) -> dict[str, Shipped]:
    """The pools of tasks as they are in this machine's cache."""
    paths = {name: pool_path(tasks[name], settings.pool) for name in names}
    return {name: Shipped(path.read_bytes(), read_pool(path).checksum) for name, path in paths.items()}


def receive(task: str, settings: Settings, shipped: Shipped) -> None:
    """Puts a pool that was shipped into this machine's cache.

    Raises:
        ValueError: there is another one, which was made here.
    """
    path = pool_path(tasks[task], settings.pool)
    if not path.exists():
        write_whole(path, shipped.file)
    elif path.read_bytes() != shipped.file and (there := read_pool(path).checksum) != shipped.checksum:
        raise ValueError(
            f"{path} on this machine is another pool of {task} ({there[:12]}…) than that of the results "
            f"({shipped.checksum[:12]}…): delete it, or set PREFGYM_CACHE there to another folder"
        )


def _get_ready() -> None:
    """Imports all that cells use, whatever the first work is: joblib replaces a process that grows after it."""
    import torch

    from prefgym.benchmark.tracks import offline, online  # noqa: F401

    torch.set_num_threads(1)
