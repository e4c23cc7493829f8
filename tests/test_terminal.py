"""Labelling at a terminal: through a real one (a pty), whose screen is read as a person would."""

import codecs
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefgym.envs  # noqa: F401
from prefgym.comparisons import Query
from prefgym.envs.bodies import Body
from prefgym.labelling.terminal_art import filmstrip, half_blocks
from prefgym.labelling.terminal_io import PATIENCE, Decoder
from prefgym.live import Live
from prefgym.segments import Segment, cut
from prefgym.store import Store

ENV = "prefgym/Backflip-v0"
LIMIT = 30  # seconds after which a terminal that hangs has failed
SCRIPT = """
import sys
from pathlib import Path
from prefgym.labelling.terminal import label
from prefgym.store import Store

with Store(sys.argv[1], create=False) as store:
    print("given:", label(store, run=Path(sys.argv[2]) if sys.argv[2] else None, annotator="ann", speed=2.0))
"""


@pytest.fixture(scope="module")
def queries():
    """Eight pairs of clips of a robot that moves at random."""
    env, rng = gym.make_vec(ENV, num_envs=4), np.random.default_rng(0)
    env.reset(seed=0)
    steps = []
    for step in range(80):
        if step % 10 == 0:
            actions = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observations, rewards, _, _, info = env.step(actions)
        steps.append((observations, actions, info["shown"], rewards))
    parts = [np.array(part).swapaxes(0, 1) for part in zip(*steps, strict=True)]
    segments = [
        cut(*(part[robot] for part in parts), np.zeros(80, int), start, 40, env_id=ENV)
        for robot in range(4)
        for start in (0, 40)
    ]
    return [Query(segments[n], segments[(n + 3) % 8], prediction=0.4) for n in range(8)]


@pytest.fixture
def store(queries, tmp_path):
    with Store(tmp_path / "feedback.db") as store:
        store.ask(queries)
        yield store


class Screen:
    """What is to be seen after what a program wrote: characters [R, C] and colours over and under them."""

    def __init__(self, columns=80, rows=24):
        self.size, self.written, self._rest = (columns, rows), "", ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._clear()

    def _clear(self):
        columns, rows = self.size
        self.text = [[" "] * columns for _ in range(rows)]
        self.over, self.under = (np.zeros((rows, columns, 3), int) for _ in range(2))
        self.row = self.column = 0
        self.pen = {38: (255, 255, 255), 48: (0, 0, 0)}

    def write(self, data):
        text = self._decode(data)
        self.written += text
        text = self._rest + text
        self._rest = re.search(r"(\x1b(\[[0-9;?]*)?)?\Z", text).group()
        for found in re.finditer(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", text[: len(text) - len(self._rest)]):
            options, command, character = found.groups()
            if character:
                self._put(character)
            elif command == "H":
                row, column = (int(n) - 1 for n in options.split(";"))
                # As terminals do: what was on its way when the window became smaller was meant for a larger one.
                self.row, self.column = min(row, self.size[1] - 1), min(column, self.size[0] - 1)
            elif command == "J":
                self._clear()
            elif command == "K":
                self.text[self.row][self.column :] = [" "] * (self.size[0] - self.column)
                self.under[self.row, self.column :] = 0
            elif command == "m":
                self._colour([int(n or 0) for n in options.split(";")])

    def _put(self, character):
        if character in "\r\n":
            self.row, self.column = (self.row + 1) % self.size[1] if character == "\n" else self.row, 0
        elif self.column < self.size[0]:
            self.text[self.row][self.column] = character
            self.over[self.row, self.column] = self.pen[38]
            self.under[self.row, self.column] = self.pen[48]
            self.column += 1

    def _colour(self, codes):
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.pen = {38: (255, 255, 255), 48: (0, 0, 0)}
            elif code in (38, 48) and codes[0] == 2:
                self.pen[code], codes = tuple(codes[1:4]), codes[4:]
            elif code in (38, 48):
                self.pen[code], codes = (codes[1],) * 3, codes[2:]

    @property
    def is_whole(self):
        """Whether no picture is half written."""
        return self.written.endswith("\x1b[?2026l")

    @property
    def words(self):
        return "\n".join("".join(line).rstrip() for line in self.text)

    @property
    def pixels(self):
        """Colours [2 R, C, 3] where half blocks are, nan elsewhere."""
        blocks = np.array(self.text) == "▀"
        both = np.stack([self.over, self.under], axis=1).astype(float)
        both[~np.stack([blocks, blocks], axis=1)] = np.nan
        return both.reshape(-1, *both.shape[2:])


class Session:
    """`label` in a process of its own, at a terminal of its own."""

    def __init__(self, store, *, run="", columns=80, rows=24, **environment):
        self.store, self.screen = store, Screen(columns, rows)
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        hidden = {"COLUMNS", "LINES", "NO_COLOR", "COLORTERM"}
        base = {name: value for name, value in os.environ.items() if name not in hidden}
        base |= {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONIOENCODING": "utf-8",
            "OMP_NUM_THREADS": "1",
        }
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.slave)
        command = [sys.executable, "-c", SCRIPT, store.name, str(run)]
        self.process = subprocess.Popen(command, env=base | environment, start_new_session=True, **streams)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns, rows):
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.size = columns, rows

    def press(self, keys):
        os.write(self.master, keys.encode())

    def until(self, happened, what):
        """Reads the screen until something has happened."""
        deadline = time.monotonic() + LIMIT
        while not happened():
            assert time.monotonic() < deadline, f"{what}: not seen in {LIMIT} s\n{self.screen.words}"
            self.read(0.05)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.screen.write(os.read(self.master, 1 << 16))

    def sees(self, words):
        self.until(lambda: self.screen.is_whole and words in self.screen.words, words)

    def answers(self):
        return [entry.answer for entry in self.store.ledger()]

    def says(self, key, count):
        """Presses the key of an answer, and waits until the store has it."""
        self.press(key)
        self.until(lambda: len(self.store.ledger()) == count, f"{count} answers")

    def ends(self):
        """Waits for the end; returns the exit code. The terminal must be as it was."""
        self.until(lambda: self.process.poll() is not None, "the end")
        while select.select([self.master], [], [], 0)[0]:
            self.read(0)
        assert termios.tcgetattr(self.slave) == self.before
        for entered, left in (("?1049h", "?1049l"), ("?25l", "?25h"), ("?2004h", "?2004l")):
            assert self.screen.written.rfind(left) > self.screen.written.rfind(entered) >= 0
        return self.process.returncode


LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"


def test_a_person_answers_undoes_and_quits(store):
    with Session(store) as session:
        session.sees("← left is better")
        for count, key in enumerate([LEFT, RIGHT, UP, "=", DOWN, " "], 1):
            session.says(key, count)
        shown = {("first", False): LEFT, ("second", True): LEFT, ("second", False): RIGHT, ("first", True): RIGHT}
        entries = store.ledger()
        assert [shown[entry.answer, entry.flipped] for entry in entries[:2]] == [LEFT, RIGHT]
        assert [entry.answer for entry in entries[2:]] == ["tie", "tie", "skip", "skip"]
        assert [entry.query_id for entry in entries] == [1, 2, 3, 4, 5, 6]
        assert all(entry.annotator == "ann" and 0 < entry.seconds < LIMIT for entry in entries)
        session.says("u", 7)
        session.says("U", 8)
        session.sees("4 compared")
        session.press("xyz\t\x1b[5~\x1bOP\x1b[1;5D\x1b[200~===\x1b[201~é5")  # unknown keys, and a paste
        session.says(LEFT.replace("[", "O"), 9)  # as terminals send it in another mode
        assert store.ledger()[-1].query_id == 5
        session.press("q")
        assert session.ends() == 0
        assert "given: 5" in session.screen.written
        assert len(store.ledger()) == 9
    assert store.counts()["open"] == 3


def moved(before, screen):
    return not np.array_equal(before, screen.pixels, equal_nan=True)


def is_robot(pixels):
    """Where the torso's, the thigh's or the leg's colour is, or near it."""
    colours = np.array([[214, 84, 62], [233, 129, 78], [244, 172, 92]])
    return (np.abs(np.nan_to_num(pixels)[..., None, :] - colours).max(axis=-1) < 45).any(axis=-1)


def test_two_robots_are_seen_moving(store):
    with Session(store, columns=100, rows=30) as session:
        session.sees("right is better →")
        frames = []
        for _ in range(3):
            seen = session.screen.pixels.copy()
            session.until(lambda seen=seen: session.screen.is_whole and moved(seen, session.screen), "a movement")
            frames.append(is_robot(session.screen.pixels))
        for half in (slice(0, 50), slice(50, 100)):
            assert all(12 < frame[:, half].sum() < 400 for frame in frames)
            extent = [np.ptp(places) for places in np.nonzero(frames[0][:, half])]
            assert max(extent) >= 10  # pixels, 17 a metre: it may lie
        words = session.screen.words
        assert "Which is better?   0 compared" in words
        assert "↑ tie   ↓ can't tell   U undo   R replay   + − speed 2×   H help   Q quit" in words
        session.press("q")
        assert session.ends() == 0


def test_help_speed_and_replay(store):
    with Session(store) as session:
        session.sees("← left is better")
        session.press("h")
        session.sees("undo the last answer, as often as you like")
        session.press("h")
        session.sees("← left is better")
        session.press("-")
        session.sees("speed 1×")
        session.press("--")
        session.sees("speed 0.25×")
        session.press("++r")
        session.sees("speed 1×")
        session.press("u")
        session.sees("There is nothing left to undo.")
        assert session.answers() == []
        session.press("Q")
        assert session.ends() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_the_terminal_as_it_was_and_keeps_every_answer(number, code, store):
    with Session(store) as session:
        session.sees("← left is better")
        session.says(LEFT, 1)
        session.process.send_signal(number)
        assert session.ends() in (code, 130)
    assert store.counts()["comparisons"] == 1
    assert store.counts()["open"] == 7


def test_a_key_that_is_held_down_does_not_answer_on_and_on(store):
    with Session(store) as session:
        session.sees("← left is better")
        session.press(LEFT * 30)
        session.says(RIGHT, 2)
        session.press("q")
        session.ends()
        assert len(session.answers()) == 2


@pytest.mark.parametrize(
    "terminal",
    [{"COLORTERM": "", "TERM": "xterm"}, {"NO_COLOR": "1"}, {"columns": 46}, {"PYTHONIOENCODING": "ascii"}],
    ids=["16 colours", "no colours", "narrow", "ascii"],
)
def test_elsewhere_there_are_filmstrips(terminal, store):
    with Session(store, **terminal) as session:
        session.sees("right")
        ascii_ = "PYTHONIOENCODING" in terminal
        strips = re.split("left|right", session.screen.words)[1:3]
        drawn = [
            sum(character in ".#" if ascii_ else "\u2800" < character <= "\u28ff" for character in strip)
            for strip in strips
        ]
        assert min(drawn) > 30
        session.says("=", 1)
        session.press("q")
        assert session.ends() == 0


def test_256_colours_are_enough_to_move(store):
    with Session(store, COLORTERM="") as session:
        session.sees("← left is better")
        assert "\x1b[38;5;" in session.screen.written
        assert "38;2;" not in session.screen.written
        session.press("q")
        session.ends()


def test_the_picture_follows_the_size_of_the_terminal(store):
    with Session(store) as session:
        session.sees("← left is better")
        session.resize(30, 6)
        session.sees("The terminal is too")
        session.resize(120, 40)
        session.until(lambda: (np.array(session.screen.text) == "▀").sum() > 2000, "larger pictures")
        session.press("q")
        assert session.ends() == 0


def test_clips_without_a_body_are_named_and_can_be_left_out(tmp_path):
    text = [
        Segment(np.full((3, 2), n), np.zeros((3, 1)), np.zeros((3, 0)), np.zeros(3), env_id="Words-v0") for n in (0, 1)
    ]
    with Store(tmp_path / "words.db") as store:
        store.ask([Query(*text)])
        with Session(store) as session:
            session.sees("cannot be drawn at a terminal: ↓ leaves them out")
            session.press(LEFT)
            session.sees("These cannot be compared here")
            session.says(DOWN, 1)
            session.sees("Nothing to compare now")
            session.press("q")
            assert session.ends() == 0
        assert session.answers() == ["skip"]


def test_what_training_does_is_seen_and_can_be_paused(store, tmp_path):
    Live("training", 120_000, 800_000, 60, clean_backflips=3.0).write(tmp_path)
    with Session(store, run=tmp_path) as session:
        session.sees("Training: training, 120,000 of 800,000 steps")
        session.sees("0 of 60 compared")
        session.press("f")
        session.sees("clean flips now: 3")
        session.press("p")
        session.until((tmp_path / "pause").exists, "the file that pauses")
        session.sees("paused by you")
        session.press("q")
        assert session.ends() == 0
        assert not (tmp_path / "pause").exists()


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_without_a_terminal_the_error_says_so(stream, store):
    master, slave = pty.openpty()
    streams = {"stdin": slave, "stdout": slave, stream: subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.Popen([sys.executable, "-c", SCRIPT, store.name, ""], **streams, text=True)
    _, errors = done.communicate(timeout=LIMIT)
    os.close(master)
    os.close(slave)
    name = {"stdin": "input", "stdout": "output"}[stream]
    assert f"the {name} is not a terminal: run it in one, or label with --web or --window" in errors


# Pieces.


@given(st.lists(st.sampled_from(["left", "right", "up", "down", "u", "=", "−", "é"]), max_size=12), st.data())
def test_keys_arrive_whole_however_they_are_cut(keys, data):
    arrows = {"left": LEFT, "right": RIGHT, "up": UP, "down": DOWN}
    sent = "".join(arrows.get(key, key) for key in keys).encode()
    decoder, got = Decoder(time=lambda: 0.0), []
    while sent:
        count = data.draw(st.integers(1, len(sent)))
        got += decoder.keys(sent[:count])
        sent = sent[count:]
    assert got == keys


@given(st.binary(max_size=40))
def test_any_bytes_are_taken(data):
    assert all(isinstance(key, str) for key in Decoder(time=lambda: 0.0).keys(data + b"u"))


def test_escape_alone_does_not_eat_a_later_key():
    now = [0.0]
    decoder = Decoder(time=lambda: now[0])
    assert decoder.keys(b"\x1b") == []
    now[0] += PATIENCE / 2
    assert decoder.keys(b"[D") == ["left"]
    assert decoder.keys(b"\x1b") == []
    now[0] += PATIENCE * 2
    assert decoder.keys(b"u") == ["u"]


def test_a_picture_becomes_half_blocks():
    pixels = np.array([[[1, 2, 3], [1, 2, 3]], [[4, 5, 6], [255, 0, 0]]], np.uint8)
    pen = "\x1b[38;2;1;2;3;48;2;4;5;6m▀\x1b[38;2;1;2;3;48;2;255;0;0m▀\x1b[0m"
    assert half_blocks(pixels, many=True) == [pen]
    assert half_blocks(np.full((2, 3, 3), 255, np.uint8), many=False) == ["\x1b[38;5;231;48;5;231m▀▀▀\x1b[0m"]
    assert "48;5;244" in half_blocks(np.full((2, 1, 3), 128, np.uint8), many=False)[0]


def test_a_filmstrip_shows_the_body_where_it_is(queries):
    body = Body.of(ENV)
    pose = np.asarray(queries[0].first.shown[:1], float)
    low = filmstrip(body, pose, 1, (16, 8), dots=False)
    assert [len(line) for line in low] == [16] * 8
    assert sum(line.count("#") for line in low) > 8
    assert len(filmstrip(body, queries[0].first.shown, 4, (10, 5))[0]) == 43


@pytest.fixture
def arms(tmp_path):
    """Pairs of clips of a robot that is not planar."""
    segments = []
    for number in range(6):
        qpos = np.zeros((25, 4))
        qpos[:, 0], qpos[:, 1] = 0.5 * number, np.linspace(0, 2, 25)
        parts = np.full((25, 2), number), np.zeros((25, 1)), qpos, np.zeros(25)
        segments.append(Segment(*parts, env_id="Reacher-v5"))
    with Store(tmp_path / "arms.db") as store:
        store.ask(Query(*segments[n : n + 2]) for n in (0, 2, 4))
        yield store


def test_pictures_of_mujocos_renderer_move_too(arms):
    with Session(arms, columns=100, rows=30) as session:
        session.sees("← left is better")
        session.until(lambda: session.screen.is_whole and np.isfinite(session.screen.pixels).sum() > 5000, "pictures")
        first = session.screen.pixels
        session.until(lambda: session.screen.is_whole and np.nansum(session.screen.pixels != first) > 100, "motion")
        session.says(LEFT, 1)
        session.sees("Which is better?   1 compared")  # its clips may not be there at once on a busy machine
        session.says(DOWN, 2)
        session.press("q")
        assert session.ends() == 0


def test_elsewhere_there_are_filmstrips_of_them(arms):
    with Session(arms, columns=100, rows=30, TERM="vt100", COLORTERM="") as session:
        session.sees("→ right")
        assert sum(0x2800 < ord(character) < 0x2900 for character in session.screen.words) > 40
        session.press("q")
        assert session.ends() == 0
