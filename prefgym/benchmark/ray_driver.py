"""The process that speaks to Ray for `ray_cluster`: it is told an order, and says what is done until nothing is left.

It ends with the cluster, and with the process that started it. Its standard output is for that process alone.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any, BinaryIO

import cloudpickle  # type: ignore[import-untyped]

from prefgym import __version__
from prefgym.benchmark.jobs import Outcome, attempt
from prefgym.benchmark.ray_cluster import Absent, Connected, Done, Order, Refused, unreachable

TRIES = 3
"""How often an item is begun whose process or machine dies at it."""

LOOK = 5.0
"""Seconds between two looks whether the cluster has a CPU."""

LOST = (
    "The process or the machine that computed it died, {tries} times: by the system for want of memory, perhaps. Ray "
    "says: {error}\n"
)


def main() -> None:
    """Follows one order, from standard input."""
    said = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what Ray prints is no part of what is said
    order: Order = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_giver, daemon=True).start()
    Speaker(order, said).follow()


def _end_with_giver() -> None:
    """Ends this process, at whatever it is, when the other end of its standard input is closed."""
    sys.stdin.buffer.read()
    os._exit(1)


class Speaker:
    """Follows an order.

    Args:
        order: to follow.
        out: gets what is said, pickled.
    """

    def __init__(self, order: Order, out: BinaryIO) -> None:
        self.order, self.out = order, out
        self.tries: Counter[int] = Counter()
        self.flying: dict[Any, int] = {}

    def follow(self) -> None:
        """To the end, whatever it is."""
        if reason := unreachable(self.order.address) or self._connect():
            self._say(Absent(reason))
            return
        self._say(Connected())
        self._submit()
        if reason := self._gather():
            self._say(Refused(reason))

    def _say(self, what: Connected | Done | Refused | Absent) -> None:
        pickle.dump(what, self.out)
        self.out.flush()

    def _connect(self) -> str:
        """Why the cluster cannot be joined; "" if it is."""
        import ray

        try:
            ray.init(self.order.address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # a dozen types, by what is wrong with it
            return f"it cannot be joined, of which this machine must be a part (ray start --address HOST:PORT): {error}"
        return ""

    def _submit(self) -> None:
        import ray

        remote = ray.remote(num_cpus=1, max_retries=0)(attempt_remotely)
        work = ray.put(self.order.work)  # once, and fetched once by each machine
        self.begin = lambda number: remote.remote(work, self.order.items[number], self.order.version)
        for number in self.order.items:
            self.flying[self.begin(number)] = number

    def _gather(self) -> str:
        """Says what is done until all is; returns why it cannot be, or ""."""
        import ray

        seen = time.monotonic()
        while self.flying:
            ready, _ = ray.wait(list(self.flying), timeout=LOOK)
            for reference in ready:
                if reason := self._settle(reference):
                    return reason
            if ready or _has_cpu():
                seen = time.monotonic()
            elif time.monotonic() - seen >= self.order.patience:
                return (
                    f"no node with a CPU was there for {self.order.patience:.0f} seconds. What was done is kept: the "
                    "same command goes on when there is one"
                )
        return ""

    def _settle(self, reference: Any) -> str:
        """Says an outcome, or begins anew what was lost; returns why no node can do it, or ""."""
        import ray
        from ray import exceptions

        number = self.flying.pop(reference)
        try:
            outcome = ray.get(reference)
        except (exceptions.RayTaskError, exceptions.RaySystemError, exceptions.RuntimeEnvSetupError) as error:
            return (
                f"a node cannot begin it. prefgym {self.order.version} must be installed on every node, as it is on "
                f"this machine; what was done is kept. {getattr(error, 'cause', None) or error}"
            )
        except exceptions.RayError as error:  # its process or its machine died, or what it came to was lost with one
            self.tries[number] += 1
            if self.tries[number] < TRIES:
                self.flying[self.begin(number)] = number
                return ""
            outcome = Outcome(None, LOST.format(tries=TRIES, error=error))
        self._say(Done(number, outcome))
        return ""


def attempt_remotely(work: bytes, item: bytes, version: str) -> Outcome:
    """Does the work on an item, both pickled, on a node.

    Raises:
        RuntimeError: the node has another version of prefgym.
    """
    if __version__ != version:
        raise RuntimeError(f"{socket.gethostname()} has prefgym {__version__}, and not {version}")
    return attempt(cloudpickle.loads(work), cloudpickle.loads(item))[1]


def _has_cpu() -> bool:
    import ray

    return any(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())
