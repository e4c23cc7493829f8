"""How the labelling page's server bears many annotators at once: latencies, and that no answer is lost or doubled.

    python benchmarks/labelling_load.py                                     # 8 x 1000 answers, into SQLite
    python benchmarks/labelling_load.py --store postgresql+psycopg://...    # into an empty database

Annotators answer as fast as they can, each over one connection, with the next two tickets at hand as the page has them;
now and then an answer is sent twice, as by a page that did not hear the first time. The server is a process of its own.
The exit code is 1 if an answer was lost or doubled.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import combinations, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import sqlalchemy as sa
import tyro

import prefgym as package  # registers the environments
from prefgym import database
from prefgym.comparisons import Query
from prefgym.labelling import web
from prefgym.labelling.desk import Choice
from prefgym.segments import Segment
from prefgym.store import Store

ENV, STEPS, JOINTS = "prefgym/Backflip-v0", 25, 6
TWICE = 10  # one answer in so many is sent twice
PREFETCH = 3


@dataclass(frozen=True)
class LoadConfig:
    """Answer over HTTP, many at once.

    Attributes:
        annotators: who answer at the same time.
        answers: that each of them gives.
        think: mean seconds between two answers of one annotator, at random (exponential).
        store: path or URL of a new store; a SQLite file that is thrown away by default.
        timeout: seconds for everything.
    """

    annotators: int = 8
    answers: int = 1000
    think: float = 0.0
    store: str = ""
    timeout: float = 1800.0


@dataclass
class Tally:
    """What one annotator saw: acknowledged answers (token to what was said), seconds taken, and answers that failed."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"answers": [], "tickets": []})
    failed: Counter[int] = field(default_factory=Counter)
    changed: int = 0  # answers that got another id when they were sent again


class Client:
    """One annotator's connection."""

    def __init__(self, port: int, name: str, tally: Tally) -> None:
        self.name, self.tally = name, tally
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._here: list[str] = []

    def tokens(self) -> list[str]:
        """Of what is to be answered; the clips of those that are here already are not sent again, as to the page."""
        query = urlencode({"annotator": self.name, "count": PREFETCH, "known": ",".join(self._here)})
        tickets = self._call("tickets", "GET", f"/api/tickets?{query}")[1].get("tickets", [])
        self._here = [ticket["token"] for ticket in tickets]
        return self._here

    def answer(self, token: str, choice: str) -> int | None:
        """Answers, and returns the comparison's id; None if the server did not take it."""
        fields = {"token": token, "choice": choice, "annotator": self.name, "seconds": 1.5}
        status, data = self._call("answers", "POST", "/api/answers", json.dumps(fields))
        if status != 200:
            self.tally.failed[status] += 1
            return None
        self.tally.acknowledged[token] = choice
        return data["id"]

    def _call(self, what: str, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        began = time.perf_counter()
        self._connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self._connection.getresponse()
        data = json.loads(response.read())
        self.tally.seconds[what].append(time.perf_counter() - began)
        return response.status, data


def annotate(port: int, number: int, config: LoadConfig) -> Tally:
    """One annotator at work."""
    tally, rng = Tally(), np.random.default_rng(number)
    client = Client(port, f"annotator-{number}", tally)
    until = time.monotonic() + config.timeout
    while len(tally.acknowledged) < config.answers and time.monotonic() < until:
        for token in client.tokens()[:1]:
            choice = str(rng.choice(list(Choice)))
            first = client.answer(token, choice)
            if rng.integers(TWICE) == 0:
                tally.changed += client.answer(token, choice) != first
            time.sleep(rng.exponential(config.think))
    return tally


def queries(number: int) -> Iterator[Query]:
    """Queries of random poses, all different."""
    rng, size = np.random.default_rng(0), 2
    while size * (size - 1) // 2 < number:
        size += 1
    pool = [_segment(rng) for _ in range(size)]
    return (Query(*pair, prediction=0.5) for pair in islice(combinations(pool, 2), number))


def _segment(rng: np.random.Generator) -> Segment:
    qpos = rng.normal(size=(STEPS, JOINTS)).cumsum(axis=0) / 10
    return Segment(rng.normal(size=(STEPS, 18)), rng.normal(size=(STEPS, 3)), qpos, np.zeros(STEPS), ENV)


def _serve(target: str, pipe: Connection) -> None:
    listener = web.listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = web.make_app(Store(target), run=None, token=None, host="127.0.0.1", port=port, rate=1e6, burst=1e6)
    pipe.send(port)
    web.server(app).run(sockets=[listener])


@contextmanager
def served(target: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(target, far))
    process.start()
    try:
        yield near.recv()
    finally:
        process.terminate()
        process.join()


def check(store: Store, tallies: Sequence[Tally]) -> tuple[int, int]:
    """How many acknowledged answers the store does not hold as they were given, and how many it holds too often."""
    said = {token: choice for tally in tallies for token, choice in tally.acknowledged.items()}
    columns = (database.comparisons.c.uid, database.comparisons.c.answer, database.comparisons.c.flipped)
    with store.database.reading() as connection:
        held = [(uid, answer, flipped) for uid, answer, flipped in connection.execute(sa.select(*columns))]
    found = {uid: (answer, flipped) for uid, answer, flipped in held}
    right = sum(uid in found and Choice(choice).answer(found[uid][1]) == found[uid][0] for uid, choice in said.items())
    return len(said) - right, len(held) - len(said) + sum(tally.changed for tally in tallies)


def measure(config: LoadConfig, target: str) -> tuple[list[list[str]], int]:
    """Lines of the table, and how many answers were lost or doubled."""
    with Store(target) as store, served(target) as port:
        store.ask(queries(config.annotators * (config.answers + PREFETCH)))
        began = time.perf_counter()
        with ThreadPoolExecutor(config.annotators) as pool:
            tallies = list(pool.map(lambda number: annotate(port, number, config), range(config.annotators)))
        seconds = time.perf_counter() - began
        lost, doubled = check(store, tallies)
    given = sum(len(tally.acknowledged) for tally in tallies)
    lines = [["answers", f"{given} in {seconds:.0f} s, {given / seconds:.0f} a second", ""]]
    lines += [
        [f"{name}: p50, p99, most, ms", _milliseconds(tallies, name), "p99 < 100"] for name in ("answers", "tickets")
    ]
    lines += [["failed", str(dict(sum((tally.failed for tally in tallies), Counter()))), "{}"]]
    return [*lines, ["lost", str(lost), "0"], ["doubled", str(doubled), "0"]], lost + doubled


def _milliseconds(tallies: Sequence[Tally], name: str) -> str:
    taken = 1000 * np.concatenate([tally.seconds[name] for tally in tallies])
    return ", ".join(f"{value:.1f}" for value in (*np.percentile(taken, [50, 99]), taken.max()))


def main(arguments: Sequence[str]) -> int:
    """Prints one Markdown table."""
    from summary import machine, markdown  # here, since the server's process imports this file too

    config = tyro.cli(LoadConfig, args=arguments)
    with tempfile.TemporaryDirectory() as folder:
        lines, wrong = measure(config, config.store or str(Path(folder) / "feedback.db"))
    print(markdown(["what", "found", "goal"], lines))
    print(f"\n{config.annotators} annotators x {config.answers}, prefgym {package.__version__}, on {machine()}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
