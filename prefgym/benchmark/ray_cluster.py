"""A Ray cluster does the work: every cell a task of one CPU, on however many machines.

Ray ends a process whose cluster is lost. So it is spoken to by a process of its own, `ray_driver`; when that is gone,
another one is started, and does what is left.
"""

from __future__ import annotations

import logging
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cloudpickle  # type: ignore[import-untyped]

from prefgym import __version__
from prefgym.benchmark.jobs import Item, Outcome

PATIENCE = 600.0
"""Seconds for which a cluster may be lost, or without any CPU, before it is given up."""

PAUSE = 5.0
"""Seconds between two tries to find a cluster that was lost."""

PROBE = 5.0
"""Seconds in which a machine that is there takes a connection."""

AUTO = "auto"
"""An address: of the cluster that this machine is part of."""

logger = logging.getLogger(__name__)


class ClusterError(RuntimeError):
    """A cluster that is not there, lost, or not fit for the work; the message says how to go on."""


class Order(NamedTuple):
    """What a driver is told.

    Attributes:
        address: of the cluster.
        patience: seconds to wait for a node that has a CPU.
        version: of prefgym, which nodes must have too.
        work: what to do, pickled.
        items: to do it on, by number, pickled.
    """

    address: str
    patience: float
    version: str
    work: bytes
    items: dict[int, bytes]


class Connected(NamedTuple):
    """A driver says: the cluster is there."""


class Done(NamedTuple):
    """A driver says: the work on an item has this outcome."""

    number: int
    outcome: Outcome


class Refused(NamedTuple):
    """A driver says: it is no use to try again."""

    reason: str


class Absent(NamedTuple):
    """A driver says: there is no such cluster now."""

    reason: str


@dataclass(frozen=True)
class RayCluster:
    """Does work on a Ray cluster: an `Each` of `prefgym.benchmark.jobs`.

    An item whose machine dies is done again elsewhere. A cluster that is lost is waited for.

    Args:
        address: HOST:PORT of the cluster's head, or auto; this machine must be a part of it, be it with no CPU.
        patience: seconds after which a lost cluster is given up, at least 0.
        log: file for what Ray says; None for standard error.

    Raises:
        ClusterError: Ray is not installed.
        ValueError: an address of another form, or a negative patience.
    """

    address: str
    patience: float = PATIENCE
    log: Path | None = None

    def __post_init__(self) -> None:
        host_and_port(self.address)
        if not self.patience >= 0:
            raise ValueError(f"`patience` must be at least 0 seconds, got {self.patience}")
        if find_spec("ray") is None:
            raise ClusterError('a cluster needs Ray, which is not installed: pip install "prefgym[ray]"')

    def __call__(self, work: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[tuple[Item, Outcome]]:
        """Each item once, with its outcome, as they come.

        Raises:
            ClusterError: the cluster cannot be reached, was lost for good, or has nodes that cannot do the work.
        """
        pending, lost = dict(enumerate(items)), _Loss()
        while pending:
            order = Order(self.address, self.patience, __version__, cloudpickle.dumps(work),
                          {number: cloudpickle.dumps(item) for number, item in pending.items()})  # fmt: skip
            with _Driver(order, self.log) as driver:
                for done in driver:
                    lost.over()
                    yield pending.pop(done.number), done.outcome
            if pending:
                self._wait(lost, driver, f"{len(items) - len(pending)} of {len(items)} are done")

    def _wait(self, lost: _Loss, driver: _Driver, done: str) -> None:
        """Before the cluster is looked for again.

        Raises:
            ClusterError: it was never there, or has been lost for too long.
        """
        if not driver.connected and not lost.since:
            raise ClusterError(f"there is no Ray cluster at {self.address}: {driver.reason}")
        new = lost.begins(driver.lived if driver.connected else 0.0, self.patience)
        if lost.seconds >= self.patience:
            raise ClusterError(
                f"the Ray cluster at {self.address} is lost ({driver.reason}), and given up after {self.patience:.0f} "
                "seconds. What was done is kept: when it is there again the same command goes on; without --cluster it "
                "goes on on this machine"
            )
        if new:
            logger.warning("the Ray cluster at %s is lost (%s); %s; it is looked for again for %.0f seconds",
                           self.address, driver.reason, done, self.patience)  # fmt: skip
        time.sleep(min(PAUSE, self.patience - lost.seconds))


class _Loss:
    """Since when a cluster has been lost; 0 while it is not."""

    since = 0.0

    def over(self) -> None:
        """Something was done: it is there."""
        self.since = 0.0

    def begins(self, lived: float, patience: float) -> bool:
        """It is lost, from now if it was there for longer than `patience` between, else since before; whether so."""
        new = not self.since or lived > patience
        if new:
            self.since = time.monotonic()
        return new

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


class _Driver:
    """The process that speaks to Ray.

    Args:
        order: what it is told.
        log: file that gets its standard error.

    Attributes:
        connected: whether it reached the cluster.
        reason: why it ended.
    """

    def __init__(self, order: Order, log: Path | None) -> None:
        self.order, self.log = order, log
        self.connected = False
        self.reason = "Ray's process ended" + (f": see {log}" if log else "")

    def __enter__(self) -> _Driver:
        self.began = time.monotonic()
        command = [sys.executable, "-c", "from prefgym.benchmark.ray_driver import main; main()"]
        self.stderr = self.log.open("ab") if self.log else None
        # A session of its own, so that Ctrl-C is heard by this process alone.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, start_new_session=True
        )
        return self

    def __iter__(self) -> Iterator[Done]:
        """What is done, until the driver ends.

        Raises:
            ClusterError: it says that it is no use.
        """
        assert self.process.stdin is not None
        try:
            pickle.dump(self.order, self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            return
        for said in self._said():
            if isinstance(said, Refused):
                raise ClusterError(f"the Ray cluster at {self.order.address} cannot do the work: {said.reason}")
            if isinstance(said, Done):
                yield said
            elif isinstance(said, Absent):
                self.reason = said.reason
            else:
                self.connected = True

    def _said(self) -> Iterator[Any]:
        assert self.process.stdout is not None
        while True:
            try:
                yield pickle.load(self.process.stdout)
            except (EOFError, pickle.UnpicklingError):  # it ended, perhaps in the middle of a word
                return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.lived = time.monotonic() - self.began
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def host_and_port(address: str) -> tuple[str, int] | None:
    """Where a cluster listens; None for auto, which says nothing about it.

    Raises:
        ValueError: an address of another form.
    """
    if address == AUTO:
        return None
    try:
        split = urlsplit(f"//{address}")
        if split.netloc == address and split.hostname and split.port:
            return split.hostname, split.port
    except ValueError:  # a port that is no number
        pass
    raise ValueError(f"`cluster` must be HOST:PORT or {AUTO}, got {address!r}")


def unreachable(address: str) -> str:
    """Why nothing answers at an address; "" if something does, or nobody knows."""
    place = host_and_port(address)
    if place is None:
        return ""
    try:
        socket.create_connection(place, PROBE).close()
    except OSError as error:
        return f"nothing answers there ({error}). ray start --head starts one, and says its address"
    return ""
