"""The labelling page in a real browser: people who only see what is drawn answer, and the store holds what they say."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from playwright.sync_api import sync_playwright

from prefgym import database
from prefgym.comparisons import Answer, Query
from prefgym.labelling.desk import Choice, Desk
from prefgym.live import Live
from prefgym.runs import Run
from prefgym.segments import Segment
from prefgym.store import Store

CHROMIUM = Path("/usr/bin/chromium")
ENV = "prefgym/Backflip-v0"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed (apt-get install chromium)")


def segment(height, steps=10):
    qpos = np.zeros((steps, 6))
    qpos[:, 1] = 1.25 + height
    qpos[:, 0] = np.linspace(0, 0.2, steps)
    return Segment(np.zeros((steps, 3)), np.zeros((steps, 1)), qpos, np.zeros(steps), ENV)


def queries(number):
    """The second segment of each is the higher one."""
    return [Query(segment(0.001 * n), segment(0.3 + 0.001 * n), prediction=0.2) for n in range(number)]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "feedback.db") as store:
        yield store


class Person:
    """Somebody at a browser of their own."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(20_000)
        self.complaints = []
        self.turn_to(self.context.new_page())

    def turn_to(self, page):
        """Goes on at another tab of the same browser."""
        self.page = page
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, url, name="ann"):
        self.page.goto(url)
        self.page.fill("#name-field", name)
        self.page.keyboard.press("Enter")
        return self

    def sees(self, selector):
        self.page.wait_for_selector(selector, state="attached")  # a script that waits would break the page's policy

    @property
    def pair(self):
        """Token of the pair that is shown, once there is one."""
        self.sees("body[data-pair]:not([data-pair=''])")
        return self.page.evaluate("document.body.dataset.pair")

    def sent(self):
        """Waits until every answer is with the server."""
        self.sees("body[data-unsent='0']")

    def do(self, act, *arguments):
        """Does something that ends with another pair, and returns the token of the one before."""
        before = self.pair
        act(*arguments)
        self.sees(f"body:not([data-pair='{before}'])")
        return before

    def press(self, key):
        return self.do(self.page.keyboard.press, key)

    def height(self, side):
        """How far up the torso is in a clip as it is drawn, 0 to 1: the mean over the pixels of its colour."""
        return self.page.evaluate(HEIGHT, side)


TAKEN = """number => new Promise(done => {
  const found = () => performance.getEntriesByName("next pair").map(one => one.duration);
  const look = () => found().length === number ? done(found()) : setTimeout(look);
  look();
})"""

HEIGHT = """side => {
  const canvas = document.querySelector(`#${side} canvas`), {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let rows = 0, count = 0;
  for (let at = 0; at < data.length; at += 4)
    if (Math.abs(data[at] - 214) + Math.abs(data[at + 1] - 84) + Math.abs(data[at + 2] - 62) < 12) {
      rows += Math.floor(at / 4 / width); count += 1;
    }
  return count ? 1 - rows / count / height : null;
}"""


@pytest.fixture
def person(browser):
    """Makes people, who have nothing to complain about in the end: no error, no breach of the policy."""
    people = []

    def make(**options):
        people.append(Person(browser, **options))
        return people[-1]

    yield make
    for one in people:
        one.context.close()
    said = [words for one in people for words in one.complaints]
    assert [words for words in said if "Failed to load resource" not in words] == []  # refusals that a test provokes


def answers(store):
    """Token to what was said of the sides as they were shown."""
    given = database.comparisons.select().where(database.comparisons.c.answer != Answer.UNDONE)
    with store.database.reading() as connection:
        rows = connection.execute(given).mappings().all()
    return {row["uid"]: str(Choice.of(Answer(row["answer"]), row["flipped"])) for row in rows}


def test_who_only_sees_the_clips_says_which_is_higher(store, person, served):
    store.ask(queries(8))
    with served(store) as url:
        ann = person().open(url)
        for number in range(8):
            _ = ann.pair
            side = max(("left", "right"), key=ann.height)
            if number < 4:
                ann.press({"left": "ArrowLeft", "right": "ArrowRight"}[side])
            else:
                ann.page.wait_for_timeout(260)  # a click sooner than that is half of a double click
                ann.do(ann.page.click, f"#{side}")
        ann.sent()
    entries = store.ledger()
    assert [entry.answer for entry in entries] == [Answer.SECOND] * 8
    assert {entry.flipped for entry in entries} == {True, False}
    assert all(0 < entry.seconds < 20 for entry in entries)
    assert {entry.annotator for entry in entries} == {"ann"}


def test_every_key_means_what_the_help_says(store, person, served):
    store.ask(queries(20))
    keys = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "tie", "=": "tie", "ArrowDown": "skip", " ": "skip"}
    with served(store) as url:
        ann = person().open(url)
        said = {ann.press(key): meant for key, meant in keys.items()}
        before = ann.pair
        for key in ("x", "Enter", "1", "Escape", "Control+ArrowLeft", "Alt+u", "r", "Tab", "F2", "A"):
            ann.page.keyboard.press(key)
        for key in ("+", "+", "+"):
            ann.page.keyboard.press(key)
        assert ann.page.inner_text("#speed") == "2×"
        for _ in range(5):
            ann.page.keyboard.press("-")
        assert ann.page.inner_text("#speed") == "0.25×"
        ann.page.keyboard.press("p")
        ann.sees("#notice:has-text('There is no training here to pause')")
        assert not ann.page.is_visible("#pause")
        ann.page.keyboard.press("h")
        ann.page.keyboard.press("ArrowLeft")  # the help is in the way
        assert ann.page.is_visible("#help")
        ann.page.keyboard.press("H")
        assert not ann.page.is_visible("#help")
        assert ann.pair == before
        ann.sent()
    assert answers(store) == said


def test_a_key_that_is_held_down_counts_once(store, person, served):
    store.ask(queries(8))
    with served(store) as url:
        ann = person().open(url)
        _ = ann.pair
        for _ in range(5):
            ann.page.keyboard.down("ArrowLeft")  # after the first: repetitions
        ann.sent()
    assert len(store.ledger()) == 1


def test_touch_on_a_phone(store, person, served):
    store.ask(queries(8))
    with served(store) as url:
        ann = person(**PHONE).open(url)
        said = {}
        for target, meant in {"#left": "left", "#right": "right", "text=tie": "tie", "text=can’t tell": "skip"}.items():
            _ = ann.pair
            ann.page.wait_for_timeout(260)
            said[ann.do(ann.page.tap, target)] = meant
        ann.sent()
        assert ann.page.evaluate("document.documentElement.scrollWidth") <= 360
        for button in ann.page.query_selector_all("#choices button, #tools button:not([hidden])"):
            box = button.bounding_box()
            assert box["height"] >= 32
            assert box["y"] + box["height"] <= 740
        assert all(button.evaluate("one => one.ariaLabel") for button in ann.page.query_selector_all("[data-do]"))
    assert answers(store) == said


def test_undo_as_often_as_one_likes(store, person, served):
    store.ask(queries(6))
    with served(store) as url:
        ann = person().open(url)
        for _ in range(3):
            ann.press("ArrowLeft")
        for _ in range(3):
            ann.press("u")
        ann.page.click("text=undo")
        ann.sees("#notice:has-text('nothing left to undo')")
        assert store.counts()["comparisons"] == 0
        for _ in range(3):
            ann.press("ArrowRight")
        ann.sent()
    assert [entry.query_id for entry in store.ledger()] == [1, 2, 3, 3, 2, 1, 1, 2, 3]
    assert list(answers(store).values()) == ["left"] * 3 + ["right"] * 3
    assert store.counts()["comparisons"] == 3


def test_after_many_an_undo_the_pairs_stay_ones_own(store, person, served):
    store.ask(queries(12))
    with served(store) as url:
        ann = person().open(url)
        for _ in range(8):
            ann.press("ArrowLeft")
            ann.sent()
        for _ in range(8):
            ann.press("u")
        with ann.page.expect_response("**/api/tickets*") as found:
            ann.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # which has it ask again
        assert found.value.status == 200
        assert [set(ticket) for ticket in found.value.json()["tickets"]] == [{"token"}] * 3
        ann.press("ArrowRight")
        ann.sent()
    assert store.ledger()[-1].query_id == 1


COLUMNS = """side => {
  const canvas = document.querySelector(`#${side} canvas`), {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data, columns = new Set();
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 1] > 2 * data[at] && data[at + 1] > 100) columns.add(at / 4 % width);
  return [Math.min(...columns), Math.max(...columns), width];
}"""


@pytest.mark.parametrize(
    ("env_id", "pose"),
    [
        (ENV, [0, 0.5, np.pi / 2, 0, 0, 0]),
        (ENV, [0, 0.5, -np.pi / 2, 0, 0, 0]),
        ("HalfCheetah-v5", [0, 0.3, 0, 1.03, -0.29, 0.66, -0.86, -0.23, 0.09]),
    ],
)
def test_feet_are_seen_at_a_phone(store, person, served, env_id, pose):
    shown = [
        Segment(np.full((9, 3), n), np.zeros((9, 1)), np.tile(pose, (9, 1)), np.zeros(9), env_id) for n in range(2)
    ]
    store.ask([Query(*shown)])
    with served(store) as url:
        ann = person(**PHONE | {"viewport": {"width": 360, "height": 640}}).open(url)
        _ = ann.pair
        for side in ("left", "right"):
            first, last, width = ann.page.evaluate(COLUMNS, side)  # of feet, by their colour
            assert 0 < first < last < width - 1


def test_a_reload_loses_neither_the_pair_nor_an_answer_on_its_way(store, person, served):
    store.ask(queries(6))
    with served(store) as url:
        ann = person()
        ann.page.add_init_script("navigator.sendBeacon = () => false")  # the server does not hear its last words either
        ann.open(url).page.route("**/api/answers", lambda route: route.abort())
        first = ann.press("ArrowUp")
        ann.sees("#notice:has-text('Your answers are kept')")
        ann.page.reload()
        second = ann.pair
        assert second != first
        assert store.ledger() == []
        ann.page.unroute("**/api/answers")
        ann.page.reload()
        assert ann.pair == second
        ann.sent()
        assert ann.page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('prefgym.answer'))") == []
    assert answers(store) == {first: "tie"}


def test_two_tabs_of_one_person_ask_nothing_twice(store, person, served):
    store.ask(queries(6))
    with served(store) as url:
        ann = person().open(url)
        one, other = ann.page, ann.context.new_page()
        first = ann.press("ArrowLeft")
        ann.sent()
        ann.turn_to(other)
        other.goto(url)
        second = ann.pair
        one.wait_for_selector(f"body[data-pair='{second}']", state="attached")
        ann.turn_to(one)
        assert ann.press("ArrowRight") == second
        ann.sent()
        ann.turn_to(other)
        ann.sees("#notice:has-text('That one was answered elsewhere meanwhile')")
        assert ann.pair != second
        ann.press("u")
        ann.sees("body:not([data-pair=''])")
        assert [entry.answer for entry in store.ledger()][2:] == [Answer.UNDONE]
        third = ann.press("ArrowUp")
        ann.sent()
    assert answers(store) == {first: "left", second: "right", third: "tie"}
    assert [entry.query_id for entry in store.ledger()] == [1, 2, 2, 2]
    assert store.counts()["comparisons"] == 2


def test_the_same_name_at_two_browsers_answers_each_pair_once(store, person, served):
    store.ask(queries(6))
    with served(store) as url:
        here, there = person().open(url), person().open(url)
        assert here.pair == there.pair
        shown = here.press("ArrowLeft")
        here.sent()
        assert there.press("ArrowRight") == shown
        there.sees("#notice:has-text('You have given another answer to this query already')")
        there.sent()
        assert there.pair == here.pair
    assert answers(store) == {shown: "left"}


def comes(found, wanted):
    """Waits until something is found in the store: what a page sends as it goes is heard of nowhere else."""
    deadline = time.monotonic() + 20
    while (last := found()) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last == wanted


def test_a_closed_page_keeps_its_pairs_from_nobody_and_a_reloaded_one_has_them_back(store, person, served, clock):
    store.ask(queries(3))

    def left():
        with store.database.reading() as connection:
            return {until - clock.now for until in connection.scalars(sa.select(database.leases.c.until))}

    with served(store, lease=1000.0, time=clock) as url:
        ann, bob = person().open(url), person()
        before = ann.pair
        ann.page.reload()
        assert ann.pair == before
        assert left() == {1000.0}
        ann.page.close(run_before_unload=True)
        comes(left, {5.0})
        bob.open(url, "bob").sees("#waiting-what:text-is('No clips are waiting')")
        clock.now += 6
        assert bob.pair != before
        bob.press("ArrowLeft")
        bob.sent()
    assert [entry.annotator for entry in store.ledger()] == ["bob"]


def test_answers_on_their_way_are_sent_as_the_page_goes(store, person, served):
    store.ask(queries(6))
    with served(store) as url:
        ann = person().open(url)
        ann.page.route("**/api/answers", lambda route: None)  # the first is never heard of, and the second waits for it
        said = {ann.press(key): meant for key, meant in {"ArrowLeft": "left", "ArrowRight": "right"}.items()}
        assert store.ledger() == []
        ann.page.close(run_before_unload=True)
        comes(lambda: answers(store), said)


def test_training_is_paused_at_the_page(store, person, tmp_path, served):
    run = Run.create(tmp_path / "run", {"env_id": ENV, "loop": {"labels": 30}})
    Live("training", 5, 100, 30, 1, segment(0).shown).write(run.folder)
    store.ask(queries(1))
    with served(store, run=run.folder) as url:
        ann = person().open(url)
        ann.sees("#pause:not([hidden])")
        assert not ann.page.is_visible("#paused")
        with ann.page.expect_response("**/api/pause"):
            ann.page.keyboard.press("p")
        assert (run.folder / "pause").exists()
        assert ann.page.inner_text("#paused") == "Training is paused; P goes on"
        ann.page.keyboard.press("ArrowLeft")
        ann.sees("#waiting-what:text-is('Training is paused')")
        with ann.page.expect_response("**/api/pause"):
            ann.page.click("#pause:has-text('go on')")
        assert not (run.folder / "pause").exists()
        ann.sees("#waiting-what:text-is('The robot is practising')")
        (run.folder / "pause").touch()  # the window can do so, too
        ann.sees("#paused:not([hidden])")


def test_the_dashboard_says_how_two_people_agree(store, person, served):
    ids = store.ask(queries(4))
    for id_, said in zip(ids, ["first", "second", "first", "second"], strict=True):
        store.answer(id_, said, annotator="bob")
        store.answer(id_, "second" if id_ == ids[0] else said, annotator="eve")
    with served(store) as url:
        ann = person().open(url)
        ann.sees("#answers div:has-text('people agree (κ)') dd:text-is('0.50')")


def test_two_people_have_pairs_of_their_own(store, person, served):
    store.ask(queries(8))
    with served(store) as url:
        ann, bob = person().open(url), person().open(url, "<img src=x onerror=alert(1)>")
        for key in ("ArrowLeft", "ArrowRight"):
            assert ann.press(key) != bob.press(key)
        ann.sent(), bob.sent()
        ann.sees("#people tr:nth-child(2)")
        assert "<img src=x" in ann.page.inner_text("#people")
    assert len({entry.query_id for entry in store.ledger()}) == 4


def test_an_answer_that_comes_too_late_is_refused_politely(store, person, served, clock):
    store.ask(queries(6))
    with served(store, lease=10.0, time=clock) as url:
        ann = person().open(url)
        late = ann.pair
        clock.now += 100
        desk = Desk(store, second=0.0, repeat=0.0, time=clock)
        desk.answer(desk.tickets("bob")[0].token, "tie", annotator="bob")
        assert ann.press("ArrowLeft") == late
        ann.sees("#notice:has-text('Somebody else has answered this query')")
        next_one = ann.press("ArrowRight")
        ann.sent()
    assert [entry.annotator for entry in store.ledger()] == ["bob", "ann"]
    assert answers(store)[next_one] == "right"


def test_it_waits_for_the_robot_to_practise(store, person, tmp_path, served):
    run = Run.create(tmp_path / "run", {"env_id": ENV, "labels": 3})
    Live("exploring", 5, 100, 3, 0, segment(0).shown).write(run.folder)
    with served(store, run=run.folder) as url:
        ann = person().open(url)
        ann.sees("#waiting-what:text-is('The robot is trying things out')")
        ann.page.keyboard.press("ArrowLeft")
        store.ask(queries(3))
        for _ in range(3):
            ann.press("ArrowLeft")
        ann.sees("#waiting-what:has-text('All comparisons are given')")
        assert ann.page.inner_text("#progress") == "3 of 3 comparisons"
        ann.page.keyboard.press("u")
        assert ann.pair


def test_with_a_token(store, person, served):
    store.ask(queries(3))
    with served(store, token="sesame") as url:
        assert person().page.goto(url).status == 403
        ann = person().open(f"{url}?token=sesame")
        before = ann.pair
        assert ann.page.url == url
        ann.page.reload()
        assert ann.pair == before
        ann.press("ArrowLeft")
        ann.sent()
    assert len(store.ledger()) == 1


def test_the_next_pair_is_there_within_50_ms(store, person, record_property, served):
    store.ask(queries(30))
    with served(store) as url:
        ann = person().open(url)
        for _ in range(20):
            ann.press("ArrowLeft")
            ann.sent()
        taken = ann.page.evaluate(TAKEN, 20)
    record_property("milliseconds", json.dumps(taken))
    print(f"from key to next pair: median {np.median(taken):.0f} ms, most {max(taken):.0f} ms")
    assert np.median(taken) < 50
