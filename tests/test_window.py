"""The window of `play`: what its keys do, and that it does so on a real X display."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from prefgym.envs.ink import pygame
from prefgym.envs.window import KEYS, SPEEDS, Moment, Player, draw_curve, show

LIMIT = 30  # seconds after which a window that hangs is killed


class Ball:
    """One capsule: qpos = (x, z)."""

    radii = np.array([0.15])
    names = ("torso",)

    def capsules(self, qpos):
        return np.stack([qpos[..., None, :], qpos[..., None, :] + [0, 0.5]], axis=-2)


def moments():
    number = 0
    while True:
        yield Moment(np.array([0.02 * number, 0.3]), np.sin(number / 8), f"moment {number}")
        number += 1


def player(**options):
    return Player(moments().__next__, Ball(), **options)


def press(playing, key):
    playing.handle(pygame.event.Event(pygame.KEYDOWN, key=key))


def picture(playing, size=(320, 300)):
    surface = pygame.Surface(size, depth=32)
    playing.draw(surface)
    return pygame.surfarray.array3d(surface)


def test_it_plays_in_real_time():
    playing = player(rate=50)
    for _ in range(60):
        playing.advance(1 / 60)
    assert playing.time == pytest.approx(1.0, abs=0.021)
    assert playing.moment.caption == f"moment {round(50 * playing.time)}"
    assert list(playing.rewards) == [np.sin(number / 8) for number in range(len(playing.rewards))]


def test_a_long_wait_is_not_made_up_for():
    playing = player(rate=50)
    playing.advance(30.0)
    assert len(playing.rewards) <= 4


def test_space_pauses_and_goes_on():
    playing = player()
    playing.advance(0.02)
    press(playing, pygame.K_SPACE)
    held = playing.time
    playing.advance(0.06)
    assert playing.time == held
    press(playing, pygame.K_SPACE)
    playing.advance(0.06)
    assert playing.time > held


def test_plus_and_minus_choose_the_speed_between_limits():
    playing = player()
    seen = []
    for key in [pygame.K_PLUS, pygame.K_EQUALS, pygame.K_KP_PLUS] + [pygame.K_MINUS] * 8 + [pygame.K_KP_MINUS]:
        press(playing, key)
        seen.append(playing.speed)
    assert seen[:3] == [2, 4, 4]
    assert seen[-1] == min(SPEEDS)
    slow, real = player(speed=0.25), player()
    for _ in range(100):
        slow.advance(0.01)
        real.advance(0.01)
    assert slow.time == pytest.approx(real.time / 4, abs=0.021)


def test_r_restarts_from_a_clean_sheet():
    calls = []
    playing = player(restart=lambda: calls.append(True))
    for _ in range(20):
        playing.advance(0.02)
    press(playing, pygame.K_r)
    assert (calls, playing.time, len(playing.rewards)) == ([True], 0.0, 0)
    playing.advance(0.0)
    assert len(playing.rewards) == 1


@pytest.mark.parametrize("key", [pygame.K_q, pygame.K_ESCAPE])
def test_q_and_escape_quit(key):
    playing = player()
    press(playing, key)
    assert not playing.running


def test_other_keys_and_events_do_nothing():
    playing = player()
    before = dict(vars(playing))
    press(playing, pygame.K_x)
    playing.handle(pygame.event.Event(pygame.KEYUP, key=pygame.K_q))
    playing.handle(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(3, 3)))
    assert vars(playing) == before
    assert pygame.K_x not in KEYS


def test_h_shows_the_keys_and_hides_them():
    playing = player()
    playing.advance(0.02)
    plain = picture(playing)
    press(playing, pygame.K_h)
    assert (picture(playing) != plain).any()
    press(playing, pygame.K_h)
    assert (picture(playing) == plain).all()


def test_the_end_is_held_until_restarted():
    supply = [iter([Moment(np.array([0, 0.3]), 1.0)] * 3)]
    playing = Player(lambda: next(supply[0]), Ball(), restart=lambda: supply.__setitem__(0, moments()))
    for _ in range(10):
        playing.advance(0.02)
    assert (playing.ended, len(playing.rewards)) == (True, 3)
    assert picture(playing).any()
    press(playing, pygame.K_r)
    playing.advance(0.02)
    assert not playing.ended
    assert playing.moment.caption.startswith("moment")


def test_a_plain_triple_is_a_moment():
    playing = Player(lambda: (np.array([0.0, 0.3]), 0.5, "hello"), Ball())
    playing.advance(0.0)
    assert playing.moment == Moment(playing.moment.qpos, 0.5, "hello", None, None)


def test_a_reward_that_is_no_number_is_an_error():
    playing = Player(lambda: (np.array([0.0, 0.3]), float("nan"), ""), Ball())
    with pytest.raises(ValueError, match="`reward` must be finite, got nan"):
        playing.advance(0.0)


@pytest.mark.parametrize("option", ["rate", "speed"])
def test_an_impossible_pace_is_refused(option):
    with pytest.raises(ValueError, match=f"`{option}` must be positive, got 0"):
        player(**{option: 0})


@pytest.mark.parametrize("size", [(640, 620), (200, 90), (1, 1), (1000, 300)])
def test_it_draws_on_a_window_of_any_size(size):
    playing = player()
    picture(playing, size)
    playing.advance(0.02)
    picture(playing, size)


def test_the_curve_rises_with_the_reward_and_scrolls_in_from_the_right():
    playing = player()

    def ink_of(values):
        surface = draw_curve(values, (300, 100), 50, playing._painter.palette, playing._letters)
        return np.abs(pygame.surfarray.array3d(surface).astype(int) - playing._painter.palette.accent).sum(-1) < 30

    rising = [int(np.argmax(column)) for column in ink_of(np.linspace(0, 1, 50).tolist())[20:220] if column.any()]
    assert len(rising) > 190
    assert (np.diff(rising) <= 0).all()
    few = np.flatnonzero(ink_of([1.0, 2.0, 1.0, 2.0]).any(axis=1))
    assert few.min() > 200
    assert not ink_of([]).any()


def test_without_a_display_the_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")
    monkeypatch.setattr(pygame.display, "init", lambda: None)
    with pytest.raises(RuntimeError, match="there is no display; write_animation makes a file instead"):
        show(moments(), Ball())


WINDOW = """
import json, sys
import numpy as np
from prefgym.envs.ink import pygame
from prefgym.envs.window import Moment, show

class Ball:
    radii, names = np.array([0.15]), ["torso"]
    capsules = staticmethod(lambda qpos: np.stack([qpos[None], qpos[None] + [0, 0.5]], axis=-2))

def say(**words):
    print(json.dumps(words), flush=True)

def moments():
    number = 0
    while True:
        if number == 3:
            say(driver=pygame.display.get_driver(), window=pygame.display.get_wm_info()["window"])
        PLAN
        yield Moment(np.array([0.02 * number, 0.3]), np.sin(number / 8), f"moment {number}")
        number += 1

show(moments(), Ball(), restart=lambda: say(restarted=True), title="prefgym-test", size=(320, 300))
say(closed=True, display=pygame.display.get_init())
"""


class Session:
    """A window in a process of its own, and what it says."""

    def __init__(self, display, plan="pass"):
        environment = {**os.environ, "DISPLAY": display, "SDL_VIDEODRIVER": "x11", "SDL_AUDIODRIVER": "dummy"}
        code = WINDOW.replace("PLAN", plan)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.environment = environment
        self.timer = threading.Timer(LIMIT, self.process.kill)

    def __enter__(self):
        self.timer.start()
        opened = self.hear()
        assert opened["driver"] == "x11"
        self.window = opened["window"]
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()

    def hear(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else pytest.fail(self.process.stderr.read())

    def type(self, *keys):
        command = ["xdotool", "windowfocus", str(self.window), "key", *keys]
        subprocess.run(command, env=self.environment, check=True, timeout=LIMIT)


def test_posted_events_drive_a_real_window(display):
    plan = """
        def post(**event): pygame.event.post(pygame.event.Event(pygame.KEYDOWN, **event))
        if number == 4: pygame.display.set_mode((500, 420), pygame.RESIZABLE)
        if number == 6: say(size=pygame.display.get_window_size())
        if number == 8: post(key=pygame.K_h)
        if number == 12: post(key=pygame.K_r)
        if number == 16: post(key=pygame.K_PLUS)
        if number == 30: post(key=pygame.K_q)
    """
    with Session(display, plan.strip()) as window:
        assert window.hear() == {"size": [500, 420]}
        assert window.hear() == {"restarted": True}
        assert window.hear() == {"closed": True, "display": False}
        assert window.process.wait(LIMIT) == 0


@pytest.mark.skipif(shutil.which("xdotool") is None, reason="xdotool is not installed (apt-get install xdotool)")
def test_keys_typed_on_a_keyboard_reach_the_window(display):
    with Session(display) as window:
        window.type("r")
        assert window.hear() == {"restarted": True}
        window.type("h", "plus", "space", "r")
        assert window.hear() == {"restarted": True}
        window.type("Escape")
        assert window.hear() == {"closed": True, "display": False}
        assert window.process.wait(LIMIT) == 0
