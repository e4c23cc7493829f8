"""The labelling page's server: what its API does; whom it refuses is in test_web_guard.py."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from prefgym.comparisons import Query
from prefgym.envs.bodies import Body
from prefgym.labelling import web
from prefgym.labelling.desk import Choice, Desk
from prefgym.labelling.web_dashboard import Dashboard
from prefgym.live import Live
from prefgym.runs import Run
from prefgym.segments import Segment
from prefgym.store import BusyStoreError, Store

ENV = "prefgym/Backflip-v0"
ROOT = Path(__file__).parent.parent
ADDRESS = {"host": "127.0.0.1", "port": 8765}
URL = "http://127.0.0.1:8765"
TOKEN = "0" * 32


def segment(height, env_id=ENV, width=6):
    """Poses that stand still so many metres above where the body starts."""
    qpos = np.zeros((5, width))
    qpos[:, 1:2] = 1.25 + height
    return Segment(np.zeros((5, 3)), np.zeros((5, 1)), qpos, np.zeros(5), env_id)


def query(number, **facts):
    return Query(segment(number), segment(number + 0.5), **facts)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "feedback.db") as store:
        store.ask(query(n) for n in range(12))
        yield store


@pytest.fixture
def app(store, clock):
    desk = Desk(store, second=0.0, repeat=0.0, seed=0, lease=10.0, time=clock)
    return web.make_app(store, run=None, token=None, **ADDRESS, desk=desk)


@pytest.fixture
def client(app):
    return TestClient(app, base_url=URL)


def tickets(client, annotator="ann", count=1):
    reply = client.get("/api/tickets", params={"annotator": annotator, "count": count})
    assert reply.status_code == 200, reply.text
    return reply.json()["tickets"]


def answer(client, token, choice="left", annotator="ann", **more):
    return client.post("/api/answers", json={"token": token, "choice": choice, "annotator": annotator, **more})


# What it does.


@pytest.mark.parametrize("choice", Choice)
def test_an_answer_is_stored_as_it_was_given(client, store, choice):
    (ticket,) = tickets(client)
    reply = answer(client, ticket["token"], choice, seconds=2.5)
    (entry,) = store.ledger()
    assert reply.json() == {"id": entry.id}
    assert entry.answer == Choice(choice).answer(entry.flipped)
    assert (entry.annotator, entry.seconds, entry.query_id) == ("ann", 2.5, 1)


def test_what_a_page_has_is_not_sent_again(client):
    first, second = tickets(client, count=2)
    asked = {"annotator": "ann", "count": 3, "known": f"{first['token']},{'0' * 32}"}
    again = client.get("/api/tickets", params=asked).json()["tickets"]
    assert again[:2] == [{"token": first["token"]}, second]
    assert set(again[2]) == {"token", "left", "right"}


def test_sent_twice_it_counts_once(client, store):
    (ticket,) = tickets(client)
    assert len({answer(client, ticket["token"]).json()["id"] for _ in range(3)}) == 1
    assert len(store.ledger()) == 1


def test_a_clip_is_where_the_capsules_are_and_says_nothing_more(client, store):
    (ticket,) = tickets(client)
    (_, asked), *_ = store.open_queries(1)
    body = Body.of(ENV)
    drawn = [np.reshape(ticket[side]["poses"], (5, -1, 2, 2)) for side in ("left", "right")]
    meant = [body.kinematics.capsules(side.shown.astype(float)) for side in (asked.first, asked.second)]
    fits = [[np.allclose(one, other, atol=6e-4) for other in meant] for one in drawn]
    assert fits in ([[True, False], [False, True]], [[False, True], [True, False]])
    assert set(ticket) == {"token", "left", "right"}  # neither why it is shown nor what the model expects
    assert ticket["left"]["rate"] == body.rate
    assert ticket["left"]["names"] == body.kinematics.names
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in ticket["left"]["colours"])


@pytest.mark.parametrize(("env_id", "width"), [("nobody/Knows-v0", 6), (ENV, 0), (ENV, 4)])
def test_what_cannot_be_drawn_is_said(tmp_path, env_id, width):
    with Store(tmp_path / "other.db") as store:
        store.ask(
            [
                Query(
                    segment(0, env_id, width),
                    Segment(np.ones((5, 3)), *[np.zeros((5, width))] * 2, np.zeros(5), env_id),
                )
            ]
        )
        (ticket,) = tickets(TestClient(web.make_app(store, run=None, token=None, **ADDRESS), base_url=URL))
    assert ticket["left"]["kind"] == "message"
    assert env_id in ticket["left"]["text"]


def test_undo_hands_the_same_out_again_as_often_as_there_is_something(client, store):
    shown = []
    for _ in range(3):
        (ticket,) = tickets(client)
        answer(client, ticket["token"])
        shown.append(ticket)
    for before in reversed(shown):
        again = client.post("/api/undo", json={"annotator": "ann"}).json()["ticket"]
        assert (again["left"], again["right"]) == (before["left"], before["right"])
        assert tickets(client)[0]["token"] == again["token"]
    assert client.post("/api/undo", json={"annotator": "ann"}).json() == {"ticket": None}
    assert store.counts()["comparisons"] == 0


def test_two_annotators_have_queues_of_their_own_until_they_give_them_back(client):
    mine, others = tickets(client, "ann", 8), tickets(client, "bob", 8)
    assert (len(mine), len(others)) == (8, 4)
    assert client.post("/api/release", json={"annotator": "ann"}).json() == {}
    assert len(tickets(client, "bob", 8)) == 8


def test_who_leaves_may_be_back_at_once(client, clock):
    shown = tickets(client, "ann", 8)
    assert client.post("/api/release", json={"annotator": "ann", "after": 5}).json() == {}
    assert len(tickets(client, "bob", 8)) == 4
    clock.now += 4
    assert [one["token"] for one in tickets(client, "ann", 8)] == [one["token"] for one in shown]
    client.post("/api/release", json={"annotator": "ann", "after": 5})
    clock.now += 6
    assert len(tickets(client, "bob", 8)) == 8


def test_a_second_page_of_the_same_person_changes_no_answer(client, store):
    (ticket,) = tickets(client)
    assert answer(client, ticket["token"], "left").json() == answer(client, ticket["token"], "left").json()
    reply = answer(client, ticket["token"], "right")
    words = "You have given another answer to this query already. Nothing was lost: answer the next one."
    assert (reply.status_code, reply.json()) == (409, {"error": words})
    assert len(store.ledger()) == 1


def higher(ticket):
    """The side on which the body is higher."""
    return max(("left", "right"), key=lambda side: np.mean(ticket[side]["poses"]))


def test_one_ticket_in_ten_is_a_second_opinion_and_the_dashboard_says_how_two_agree(tmp_path):
    with Store(tmp_path / "shared.db") as store:
        pairs = [(segment(n), segment(n + 0.5)) for n in range(130)]
        store.ask(Query(*pair[:: (-1) ** n]) for n, pair in enumerate(pairs))
        client = TestClient(
            web.make_app(store, run=None, token=None, **ADDRESS, desk=Desk(store, seed=0)), base_url=URL
        )
        for turn in range(120):
            name = ("ann", "bob")[turn % 2]
            (ticket,) = tickets(client, name)
            answer(client, ticket["token"], higher(ticket), name)
        people = defaultdict(set)
        for entry in store.ledger():
            people[entry.query_id].add(entry.annotator)
        facts = json.loads(Dashboard(store).statistics())
    assert 3 <= sum(len(names) == 2 for names in people.values()) <= 22  # 0.1 of 120, 3 deviations
    assert facts["kappa"] == 1.0
    assert [round(one["reliability"], 1) for one in facts["annotators"]] == [1.0, 1.0]


def test_who_comes_too_late_is_told_politely(client, clock):
    (ticket,) = tickets(client)
    clock.now += 100
    (stolen,) = tickets(client, "bob")
    assert answer(client, stolen["token"], annotator="bob").status_code == 200
    reply = answer(client, ticket["token"])
    assert reply.status_code == 409
    words = "Somebody else has answered this query meanwhile. Nothing was lost: answer the next one."
    assert reply.json() == {"error": words}


def test_while_the_store_does_not_work_it_says_so_and_no_more(app, client, monkeypatch, caplog):
    def fail(*_, **__):
        raise BusyStoreError("/secret/path/feedback.db", "is locked")

    monkeypatch.setattr(Desk, "tickets", fail)
    reply = client.get("/api/tickets", params={"annotator": "ann"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "secret" not in reply.text
    assert "/secret/path/feedback.db: is locked" in caplog.text


# What is shown beside the clips.


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", {"env_id": ENV, "loop": {"labels": 30}})
    run.append({"session": 0, "steps": 100, "clean_backflips": float("nan"), "reward_correlation": 0.5, "labels": 3})
    run.append({"session": 1, "steps": 200, "clean_backflips": 1.5, "reward_correlation": 0.7, "labels": 6})
    return run


def test_the_dashboard_counts(store, run):
    store.ask([query(100 + n, prediction=0.9) for n in range(2)])
    for number, (said, who) in enumerate([("first", "ann"), ("first", "ann"), ("second", "bob")]):
        store.answer((13, 14, 14)[number], said, annotator=who, seconds=2.0 + number)
    facts = json.loads(Dashboard(store, run.folder).statistics())
    assert (facts["given"], facts["wanted"], facts["median_seconds"]) == (2, 30, 3.0)
    assert facts["agreement"] == [1.0, 1.0, pytest.approx(2 / 3)]
    assert facts["left"] == [2, 3]
    assert [(one["annotator"], one["answers"]) for one in facts["annotators"]] == [("ann", 2), ("bob", 1)]
    assert facts["curves"]["clean_backflips"] == [None, 1.5]
    assert facts["curves"]["steps"] == [100, 200]
    assert facts["training"] is None


def test_a_row_that_is_being_written_waits(store, run, clock):
    board = Dashboard(store, run.folder, time=clock)
    board.statistics()
    with run.metrics_path.open("a") as file:
        file.write("2,30")
    clock.now += 2
    assert json.loads(board.statistics())["curves"]["steps"] == [100, 200]


def test_statistics_are_counted_once_a_second(store, clock):
    board = Dashboard(store, time=clock)
    assert json.loads(board.statistics())["given"] == 0
    store.answer(1, "tie")
    assert json.loads(board.statistics())["given"] == 0
    clock.now += 1
    assert json.loads(board.statistics())["given"] == 1


def test_an_empty_store_has_a_dashboard_too(tmp_path):
    with Store(tmp_path / "empty.db") as store:
        facts = json.loads(Dashboard(store).statistics())
    assert (facts["given"], facts["wanted"], facts["kappa"], facts["annotators"]) == (0, None, None, [])


def test_what_the_robot_does_now(store, run):
    client = TestClient(web.make_app(store, run=run.folder, token=None, **ADDRESS), base_url=URL)
    assert client.get("/api/live").json() == {"live": None, "paused": False}
    Live("training", 10, 100, 30, 2, np.zeros((7, 6), np.float32)).write(run.folder)
    live = client.get("/api/live").json()["live"]
    assert (live["state"], live["steps"], live["clean_backflips"], len(live["clip"]["poses"])) == (
        "training",
        10,
        None,
        7,
    )
    Live("waiting", 11, 100, 30, 2).write(run.folder)
    live = client.get("/api/live").json()["live"]
    assert (live["state"], live["clip"]) == ("waiting", None)
    assert client.get("/api/dashboard").json()["wanted"] == 30


# Training's pause.


@pytest.fixture
def beside(store, run, clock):
    """The API's app beside a run."""
    return web.make_app(store, run=run.folder, token=None, **ADDRESS, desk=Desk(store, time=clock))


def pause(client, paused):
    return client.post("/api/pause", json={"annotator": "ann", "paused": paused})


def test_training_is_asked_to_pause_and_to_go_on(beside, run):
    client, file = TestClient(beside, base_url=URL), run.folder / "pause"
    for paused in (True, True, False, False):
        assert pause(client, paused).json() == {"paused": paused}
        assert (file.exists(), client.get("/api/live").json()["paused"]) == (paused, paused)
    file.touch()  # as the window does
    assert client.get("/api/live").json()["paused"] is True
    assert client.get("/api/dashboard").json()["paused"] is True


def test_without_training_there_is_nothing_to_pause(client):
    reply = pause(client, True)
    assert (reply.status_code, reply.json()["error"][:38]) == (404, "There is no training here to pause: on")
    assert client.get("/api/live").json()["paused"] is client.get("/api/dashboard").json()["paused"] is None


def test_a_folder_that_cannot_be_written_is_said_without_its_name(beside, run, caplog):
    shutil.rmtree(run.folder)
    reply = pause(TestClient(beside, base_url=URL), True)
    assert (reply.status_code, reply.json()) == (
        503,
        {"error": "Training cannot be told: its folder cannot be written."},
    )
    assert str(run.folder) in caplog.text


@pytest.mark.parametrize("here", [True, False])
def test_training_goes_on_when_the_server_that_paused_it_ends(beside, run, here):
    with TestClient(beside, base_url=URL) as client:
        if here:
            pause(client, True)
        else:
            (run.folder / "pause").touch()  # another front end did, and is still there
    assert (run.folder / "pause").exists() == (not here)


# The command's part.


def test_a_port_that_is_taken_is_a_clear_error(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(web.WebError, match=rf"127\.0\.0\.1, port {port}, .*choose another --port"):
            web.serve(store, port=port)
    with pytest.raises(web.WebError, match="choose another --port or --host"):
        web.serve(store, host="no.such.host.invalid")


SERVE = """
import sys
from pathlib import Path

from prefgym.labelling.web import serve
from prefgym.store import Store

serve(Store(sys.argv[1]), run=Path(sys.argv[2]), host="0.0.0.0", port=0)
"""


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_serving_until_ctrl_c(store, run, ending, code):
    command = [sys.executable, "-c", SERVE, store.name, str(run.folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as server:
        line = server.stderr.readline()
        port, token = re.fullmatch(r"Open http://[^/]+:(\d+)/\?token=(\S{40,})\n", line).groups()
        with closing(HTTPConnection("127.0.0.1", int(port), timeout=30)) as connection:
            connection.request("GET", f"/api/tickets?annotator=ann&token={token}")
            assert len(json.loads(connection.getresponse().read())["tickets"]) == 1
            connection.request("GET", "/api/dashboard")
            assert "a token is needed" in connection.getresponse().read().decode()
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            connection.request("POST", "/api/pause", json.dumps({"annotator": "ann", "paused": True}), headers)
            assert json.loads(connection.getresponse().read()) == {"paused": True}
            assert (run.folder / "pause").exists()
        os.kill(server.pid, ending)
        assert server.wait(30) == code
        said = server.stderr.read()
    assert token not in said.replace(line, "").split("Ctrl-C")[1]
    assert "Traceback" not in said
    assert not (run.folder / "pause").exists()


def test_eight_at_once_lose_and_double_nothing():
    command = [sys.executable, str(ROOT / "benchmarks/labelling_load.py"), "--annotators", "8", "--answers", "25"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("| answers | 200 in", "| failed | {} |", "| lost | 0 |", "| doubled | 0 |"):
        assert line in done.stdout


def test_the_documentation_names_every_path_and_field(client, run, store):
    text = (ROOT / "docs/api.md").read_text()
    for route in client.app.routes:
        method = "POST" if "POST" in route.methods else "GET"
        assert not route.path.startswith("/api/") or f"`{method} {route.path}" in text
    facts = json.loads(Dashboard(store, run.folder).statistics())
    for name in (*facts, *facts["curves"], *tickets(client)[0]["left"]):
        assert f"`{name}`" in text or f'"{name}"' in text
