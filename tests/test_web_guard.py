"""The labelling page's server: whom and what it refuses, and that nothing makes it fail."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from prefgym.comparisons import Query
from prefgym.labelling import web
from prefgym.labelling.web_guard import HEADERS, Pace, is_loopback
from prefgym.segments import Segment
from prefgym.store import Store

ADDRESS = {"host": "127.0.0.1", "port": 8765}
URL = "http://127.0.0.1:8765"
TOKEN = "0" * 32


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("store") / "feedback.db") as store:
        segments = [Segment(*np.full((3, 4, 2), number), np.zeros(4)) for number in range(4)]
        store.ask([Query(*segments[:2]), Query(*segments[2:])])
        yield store


@pytest.fixture(scope="module")
def client(store):
    return TestClient(web.make_app(store, run=None, token=None, **ADDRESS), base_url=URL)


GOOD = {"token": TOKEN, "choice": "left", "annotator": "ann", "seconds": 1}
FIELDS = [
    ({"token": 5}, "`token` must be a ticket's, 32 hexadecimal digits, got 5"),
    ({"token": "\ud800" * 32}, "`token` must be"),
    ({"choice": "middle"}, "`choice` must be one of left, right, tie, skip, got 'middle'"),
    ({"choice": ["left"]}, "`choice` must be one of"),
    ({"annotator": " "}, "`annotator` must be a name of 1 to 80 printable characters"),
    ({"annotator": None}, "`annotator` must be a name, got None"),
    ({"annotator": "a\ud800"}, "`annotator` must be"),
    ({"seconds": -1}, "`seconds` must be a number from 0 to 86400, got -1"),
    ({"seconds": True}, "`seconds` must be"),
    ({"seconds": 10**400}, "`seconds` must be"),
    ({"seconds": "1"}, "`seconds` must be"),
    ({"colour": "red"}, "'colour' is no field here: choose from token, choice, annotator, seconds"),
]


@pytest.mark.parametrize(("wrong", "words"), FIELDS)
def test_a_field_that_cannot_be_is_named(client, wrong, words):
    reply = client.post("/api/answers", content=json.dumps(GOOD | wrong), headers={"content-type": "application/json"})
    assert reply.status_code == 422
    assert words in reply.json()["error"]


@pytest.mark.parametrize("wrong", [-1, 60.5, True, "1", None, 10**400])
def test_only_a_short_while_may_be_kept_by_who_leaves(client, wrong):
    reply = client.post("/api/release", json={"annotator": "ann", "after": wrong})
    assert reply.status_code == 422
    assert "`after` must be a number from 0 to 60, got" in reply.json()["error"]


@pytest.mark.parametrize("wrong", [1, "true", None, []])
def test_a_pause_is_asked_for_or_not(client, wrong):
    reply = client.post("/api/pause", json={"annotator": "ann", "paused": wrong})
    assert (reply.status_code, reply.json()) == (422, {"error": f"`paused` must be true or false, got {wrong!r}"})


def test_a_field_that_is_missing_is_named(client):
    reply = client.post("/api/undo", json={})
    assert (reply.status_code, reply.json()) == (422, {"error": "`annotator` is missing"})


@pytest.mark.parametrize("known", ["x", ",", "0" * 31, ",".join(["0" * 32] * 9), "0" * 32 + "\n"])
def test_known_tickets_are_tokens(client, known):
    reply = client.get("/api/tickets", params={"annotator": "ann", "known": known})
    assert reply.status_code == 422
    assert "`known` must be at most 8 tokens with commas between them" in reply.json()["error"]


@pytest.mark.parametrize("count", ["0", "9", "x", "", "-1", "1.5", "9" * 5000, "٣"])
def test_a_count_that_cannot_be_is_refused(client, count):
    reply = client.get("/api/tickets", params={"annotator": "ann", "count": count})
    assert reply.status_code == 422
    assert "`count` must be a whole number from 1 to 8" in reply.json()["error"]


BODIES = [b"", b"{", b"\xff\xfe", b"[]", b"3", b"NaN", b'{"seconds": NaN}', b'{"seconds": Infinity}', b"[" * 4000]
BODIES += [b'{"a":' * 800, b"9" * 4000, b'"\\ud800"']


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_json_object_is_refused(client, body):
    reply = client.post("/api/answers", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert "must be" in reply.json()["error"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(client, kind):
    reply = client.post("/api/answers", content=json.dumps(GOOD), headers={"content-type": kind})
    assert reply.status_code == 415


def test_no_more_is_read_than_a_request_may_bring(client):
    read = 0

    def endless():
        nonlocal read
        for _ in range(100):
            read += 1
            yield b" " * 1000

    reply = client.post("/api/answers", content=endless(), headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error"]) == (413, "a request may bring at most 4096 bytes")


PATHS = ["/web.py", "/page/index.html", "/../web.py", "/%2e%2e/web.py", "/page.css/", "//etc/passwd", "/api", "/api/x"]


@pytest.mark.parametrize("path", [*PATHS, "/favicon.ico", "/index.html", "/feedback.db", "/static/../../setup.cfg"])
def test_nothing_is_served_but_the_page(client, path):
    reply = client.get(path)
    assert (reply.status_code, reply.json()) == (404, {"error": "Not Found"})


def test_another_method_is_refused(client):
    assert client.get("/api/answers").status_code == 405
    assert client.post("/api/tickets", json={}).json() == {"error": "Method Not Allowed"}


def test_every_reply_tells_the_browser_to_be_careful(client):
    for path in [*web.PAGE, "/api/dashboard", "/nothing", "/api/tickets"]:
        headers = client.get(path).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert headers["cache-control"] in ("no-store", "no-cache") or path == "/nothing"
    assert "unsafe" not in HEADERS["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9000", 200),
        ("[::1]:8765", 200),
        ("LOCALHOST", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8765", 403),
        ("", 400),
        ("a b", 400),
        ("localhost:8765@evil.example", 400),
    ],
)
def test_a_name_that_somebody_points_here_is_refused(client, host, status):
    assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": URL, "sec-fetch-site": "same-origin"}, 200),
        ({}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[oops"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
    ],
)
def test_other_sites_cannot_post(client, headers, status):
    assert client.post("/api/release", json={"annotator": "ann"}, headers=headers).status_code == status


def test_other_sites_cannot_take_tickets(client):
    headers = {"sec-fetch-site": "cross-site"}
    assert client.get("/api/tickets", params={"annotator": "ann"}, headers=headers).status_code == 403
    assert client.get("/", headers=headers).status_code == 200  # but may link here


@pytest.fixture
def guarded(store):
    return TestClient(
        web.make_app(store, run=None, token="sésame", host="0.0.0.0", port=8765), base_url="http://box:8765"
    )


def test_who_has_no_token_gets_nothing(guarded):
    for path in [*web.PAGE, "/api/dashboard", "/api/live", "/nothing"]:
        for headers in ({}, {"authorization": "Bearer no"}, {"cookie": "prefgym_8765=no"}):
            reply = guarded.get(path, headers=headers)
            assert reply.status_code == 403
            assert "set-cookie" not in reply.headers
    assert guarded.get("/", params={"token": ""}).status_code == 403
    assert guarded.post("/api/undo", json={"annotator": "a"}).status_code == 403


def test_the_token_is_shown_once_and_is_a_cookie_then(store):
    client = TestClient(
        web.make_app(store, run=None, token="sesame", host="0.0.0.0", port=8765), base_url="http://box:8765"
    )
    assert client.get("/api/dashboard", headers={"authorization": "bearer sesame"}).status_code == 200
    assert client.get("/api/dashboard").status_code == 403
    cookie = client.get("/", params={"token": "sesame"}).headers["set-cookie"]
    assert cookie == "prefgym_8765=sesame; Path=/; HttpOnly; SameSite=Strict"
    reply = client.get("/api/dashboard")
    assert (reply.status_code, "set-cookie" in reply.headers) == (200, False)


def test_a_token_is_not_optional_where_others_can_reach(store):
    with pytest.raises(ValueError, match=r"`token` must be given .* got none for '0\.0\.0\.0'"):
        web.make_app(store, run=None, token=None, host="0.0.0.0", port=1)


@pytest.mark.parametrize(
    ("host", "only"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True)]
)
def test_loopback(host, only):
    assert is_loopback(host) == only
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "box", "localhost.evil.example", ""]))


def test_who_asks_too_often_has_to_wait(store):
    app = web.make_app(store, run=None, token=None, **ADDRESS, rate=1.0, burst=3)
    client = TestClient(app, base_url=URL)
    found = [client.post("/api/undo", json={"annotator": "ann"}).status_code for _ in range(4)]
    assert found == [200, 200, 200, 429]
    reply = client.post("/api/undo", json={"annotator": "ann"})
    assert (reply.headers["retry-after"], reply.json()) == ("1", {"error": "too many requests: wait a moment"})
    assert client.post("/api/undo", json={"annotator": "bob"}).status_code == 200


def test_pace(clock):
    pace = Pace(rate=2.0, burst=3, time=clock)
    assert [pace.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert pace.wait("b") == 0
    clock.now += 0.5
    assert [pace.wait("a"), pace.wait("a")] == [0, 0.5]
    clock.now += 100
    assert [pace.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    with pytest.raises(ValueError, match="`rate` must be more than 0"):
        Pace(0, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=3),
    max_leaves=6,
)
ALL = GOOD | {"after": 5, "paused": True}
NEAR = st.fixed_dictionaries({}, optional={name: st.just(value) | JSON for name, value in ALL.items()})


@settings(max_examples=120, deadline=None)
@given(
    path=st.sampled_from(["/api/answers", "/api/undo", "/api/release", "/api/pause"]),
    body=(NEAR | JSON).map(lambda data: json.dumps(data).encode()) | st.binary(max_size=40),
    query=st.text(max_size=20),
)
def test_no_request_is_malformed_enough_for_a_500(client, path, body, query):
    kind = {"content-type": "application/json"}
    replies = [
        client.post(path, content=body, headers=kind),
        client.get("/api/tickets", params={"annotator": query, "count": query, "known": query}),
    ]
    for reply in replies:
        assert reply.status_code in (200, 400, 404, 409, 413, 422, 429), reply.text
        assert reply.status_code == 200 or isinstance(reply.json()["error"], str)
