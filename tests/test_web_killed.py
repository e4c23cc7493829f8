"""The labelling page's server, killed again and again while people answer: no answer that it acknowledged is lost."""

import json
import os
import signal
import threading
import time
from http.client import HTTPConnection, HTTPException
from itertools import count

import numpy as np
import pytest
import sqlalchemy as sa

from prefgym import database
from prefgym.comparisons import Query
from prefgym.labelling import web
from prefgym.labelling.desk import Choice
from prefgym.segments import Segment
from prefgym.store import Store

KILLS = int(os.environ.get("PREFGYM_KILLS", 8))
"""How often the server is killed below."""

PEOPLE = ("ann", "bob")
EACH = 4 * KILLS


def segment(number):
    qpos = np.zeros((5, 6))
    qpos[:, 1] = 1.25 + number
    return Segment(np.zeros((5, 3)), np.zeros((5, 1)), qpos, np.zeros(5), "prefgym/Backflip-v0")


class Person(threading.Thread):
    """Answers as the page does: what was not acknowledged is sent again, until it is."""

    def __init__(self, name, port):
        super().__init__(name=name, daemon=True)
        self.port, self.said, self.again = port, {}, 0

    def run(self):
        rng = np.random.default_rng(PEOPLE.index(self.name))
        while len(self.said) < EACH:
            _, data = self.call("GET", f"/api/tickets?annotator={self.name}&count=1")
            (ticket,) = data["tickets"]
            choice = str(rng.choice(list(Choice)))
            fields = {"token": ticket["token"], "choice": choice, "annotator": self.name, "seconds": 1.0}
            status, data = self.call("POST", "/api/answers", json.dumps(fields))
            assert status == 200, data
            self.said[ticket["token"]] = choice

    def call(self, method, path, body=None):
        for attempt in count():
            self.again += attempt > 0
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            except (ConnectionError, HTTPException):
                continue  # it was killed; whoever calls next waits for the next one
            finally:
                connection.close()


def serving(target, listener):
    """The process id of a server."""
    number = os.fork()
    if not number:
        try:
            port = listener.getsockname()[1]
            app = web.make_app(Store(target), run=None, token=None, host="127.0.0.1", port=port, rate=1e6, burst=1e6)
            web.server(app).run(sockets=[listener])
        finally:
            os._exit(1)
    return number


def end(server):
    os.kill(server, signal.SIGKILL)
    assert os.waitpid(server, 0)[1] == signal.SIGKILL, "it ended by itself"


@pytest.fixture
def listener():
    """Stays open from one server to the next, so that nobody is turned away between two."""
    with web.listen("127.0.0.1", 0) as listener:
        yield listener


def test_a_server_that_is_killed_keeps_what_it_acknowledged(target, listener):
    with Store(target) as store:
        store.ask(Query(segment(number), segment(number + 0.5)) for number in range(EACH * len(PEOPLE) + 20))
    rng, people = np.random.default_rng(0), [Person(name, listener.getsockname()[1]) for name in PEOPLE]
    for person in people:
        person.start()
    for _ in range(KILLS):
        server, before = serving(target, listener), sum(len(person.said) for person in people)
        while sum(len(person.said) for person in people) == before and any(person.is_alive() for person in people):
            time.sleep(0.001)  # between two looks: it is serving
        time.sleep(rng.uniform(0, 0.02))  # the moment is random: nothing is waited for
        end(server)
    server = serving(target, listener)
    for person in people:
        person.join(60)
        assert len(person.said) == EACH
    end(server)
    columns = (database.comparisons.c.uid, database.comparisons.c.answer, database.comparisons.c.flipped)
    with Store(target, create=False) as store, store.database.reading() as connection:
        held = list(connection.execute(sa.select(*columns)))
    found = {uid: (answer, flipped) for uid, answer, flipped in held}
    said = {token: choice for person in people for token, choice in person.said.items()}
    assert len(held) == len(found) == len(said) == EACH * len(PEOPLE)  # none doubled
    assert all(Choice(choice).answer(found[uid][1]) == found[uid][0] for uid, choice in said.items())
    assert sum(person.again for person in people) > 0  # it was killed while somebody asked
