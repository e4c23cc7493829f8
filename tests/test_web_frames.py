"""Clips of MuJoCo's renderer on the page: one image of many pictures, cut up again by the browser."""

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from prefgym.comparisons import Answer, Query
from prefgym.envs import frames
from prefgym.envs.frames import Footage, OpenGLError
from prefgym.labelling import web_clips
from prefgym.labelling.web_clips import Clips, sheet
from prefgym.segments import Segment
from prefgym.store import Store

CHROMIUM = Path("/usr/bin/chromium")
ENV = "Reacher-v5"

COLOURS = """() => ["left", "right"].map(side => {
  const canvas = document.querySelector(`#${side} canvas`), {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data, colours = new Set();
  for (let at = 0; at < data.length; at += 4) colours.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
  return colours.size;
})"""


def segment(number, length=25):
    qpos = np.zeros((length, 4))
    qpos[:, 0], qpos[:, 1] = 0.5 * number, np.linspace(0, 2, length)
    return Segment(np.full((length, 2), number), np.zeros((length, 1)), qpos, np.zeros(length), ENV)


def image_of(clip):
    kind, _, data = clip["image"].partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_pictures_lie_in_rows_in_one_image():
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]], np.uint8)
    clip = sheet(Footage(np.tile(colours[:, None, None], (1, 24, 32, 1)), 25.0))
    assert {name: value for name, value in clip.items() if name != "image"} == {
        "kind": "frames",
        "rate": 25.0,
        "count": 5,
        "columns": 2,
        "size": [32, 24],
    }
    image = image_of(clip)
    assert image.shape == (3 * 24, 2 * 32, 3)
    for number, colour in enumerate(colours):
        centre = image[number // 2 * 24 + 12, number % 2 * 32 + 16]
        assert np.abs(centre - colour).max() < 30


def test_a_clip_is_sent_as_frames_and_kept(monkeypatch):
    clips = Clips()
    clip = json.loads(clips.text(segment(0)))
    assert (clip["kind"], clip["count"], clip["size"]) == ("frames", 13, [320, 240])
    assert image_of(clip).std() > 10
    monkeypatch.setattr(frames, "picture", lambda *_: pytest.fail("it is made again"))
    assert json.loads(clips.text(segment(0))) == clip


def test_clips_are_kept_as_long_as_there_is_space(monkeypatch):
    monkeypatch.setattr(web_clips, "sheet", lambda footage: {"kind": "frames", "image": "x" * 1000})
    monkeypatch.setattr(frames, "picture", lambda *_: np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(web_clips, "SPACE", 3500)
    clips = Clips()
    for number in range(6):
        clips.text(segment(number, length=2))
    assert list(clips._texts) == [segment(number, length=2).digest for number in (3, 4, 5)]
    assert clips._size == sum(len(text) for _, text in clips._texts.values())


def test_the_robot_now_is_a_few_seconds_and_small():
    clip = Clips().robot(ENV, segment(0, length=300).shown)
    assert (clip["count"], clip["rate"], clip["size"]) == (46, 15.0, [240, 180])
    assert Clips().robot(ENV, np.zeros((0, 0))) is None
    assert Clips().robot("prefgym/Backflip-v0", np.zeros((3, 6)))["kind"] == "planar"


def test_without_opengl_a_sentence_is_sent(monkeypatch, caplog):
    def fails(*_):
        raise OpenGLError("set MUJOCO_GL")

    monkeypatch.setattr(frames, "picture", fails)
    clip = Clips().clip(segment(0))
    assert clip["kind"] == "message"
    assert "needs OpenGL, which does not work where this page comes from" in clip["text"]
    assert "set MUJOCO_GL" in caplog.text
    assert Clips().robot(ENV, segment(0).shown) is None


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "feedback.db") as store:
        yield store


@pytest.fixture
def page(store, served):
    """Of a browser, with the URL of the store's page as its own to go to."""
    if not CHROMIUM.exists():
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with (
        sync_playwright() as driver,
        served(store) as url,
        driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"]) as browser,
    ):
        yield browser.new_page(base_url=url)


def visit(page):
    """As ann, until a pair is there."""
    page.goto("/")
    page.fill("#name-field", "ann")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-pair]:not([data-pair=''])")


def test_the_page_shows_pictures_that_move_and_takes_answers(store, page):
    store.ask(Query(segment(2 * number), segment(2 * number + 1)) for number in range(3))
    complaints = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    visit(page)
    for number in range(3):
        page.wait_for_selector("body[data-pair]:not([data-pair=''])")
        while min(page.evaluate(COLOURS)) < 50:  # more than the ground that is seen until a picture is decoded
            page.evaluate("() => new Promise(requestAnimationFrame)")
        shown = page.locator("#left canvas").evaluate("canvas => canvas.toDataURL()")
        while page.locator("#left canvas").evaluate("canvas => canvas.toDataURL()") == shown:
            page.evaluate("() => new Promise(requestAnimationFrame)")
        token = page.evaluate("document.body.dataset.pair")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(f"body:not([data-pair='{token}'])", state="attached")
        page.wait_for_selector("body[data-unsent='0']", state="attached")
        assert len(store.ledger()) == number + 1
    assert complaints == []


def held(then):
    """A script: pictures are decoded once released; then: what comes of it."""
    return f"""
const decode = HTMLImageElement.prototype.decode, gate = new Promise((done) => {{ window.release = done; }});
HTMLImageElement.prototype.decode = async function () {{ await gate; {then} }};
"""


def test_pictures_that_cannot_be_shown_can_only_be_left_out(store, page):
    store.ask([Query(segment(0), segment(1))])
    page.add_init_script(held("throw new Error('it is damaged');"))
    visit(page)
    assert page.inner_text("#left .words") == ""
    page.evaluate("release()")
    page.wait_for_selector("#left .words:has-text('These pictures cannot be shown by this browser.')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#notice:has-text('These cannot be compared here')")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("body[data-pair='']", state="attached")
    page.wait_for_selector("body[data-unsent='0']", state="attached")
    assert [entry.answer for entry in store.ledger()] == [Answer.SKIP]


def test_what_nobody_has_seen_cannot_be_answered(store, page):
    store.ask([Query(segment(0), segment(1))])
    page.add_init_script(held("return decode.call(this);"))
    visit(page)
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.body.dataset.pair")
    assert page.evaluate("document.body.dataset.unsent") in ("0", None)
    page.evaluate("release()")
    while min(page.evaluate(COLOURS)) < 50:
        page.evaluate("() => new Promise(requestAnimationFrame)")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("body[data-pair='']", state="attached")
    page.wait_for_selector("body[data-unsent='0']", state="attached")
    assert len(store.ledger()) == 1
