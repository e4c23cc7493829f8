"""Training paused by a front end goes on when that has gone, however it went."""

import os
import subprocess
import sys
import threading

import pytest

from prefgym import pause as module
from prefgym.live import PAUSE
from prefgym.pause import GONE, NoRunError, Patience, Pause


@pytest.fixture
def patience(tmp_path, clock):
    return Patience(tmp_path, clock)


def test_it_is_asked_and_taken_back(tmp_path, patience):
    pause = Pause(tmp_path)
    assert (pause.asked, patience.holds()) == (False, False)
    pause.ask(True)
    pause.ask(True)
    assert (pause.asked, Pause(tmp_path).asked, patience.holds()) == (True, True, True)
    pause.ask(False)
    assert (pause.asked, patience.holds()) == (False, False)


def test_who_did_not_ask_does_not_end_it(tmp_path, patience):
    asking, other = Pause(tmp_path), Pause(tmp_path)
    asking.ask(True)
    other.end()
    assert patience.holds()
    asking.end()
    assert not patience.holds()


def test_without_a_run_there_is_nothing_to_pause():
    assert Pause(None).asked is None
    Pause(None).end()
    with pytest.raises(NoRunError, match="no training here to pause"):
        Pause(None).ask(True)


def test_who_was_killed_pauses_nothing_any_more(tmp_path, patience, clock):
    code = f"""
import os, signal
from pathlib import Path
from prefgym.pause import Pause
Pause(Path({str(tmp_path)!r})).ask(True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert patience.holds()
    clock.now += GONE - 1
    assert patience.holds()
    clock.now += 1
    assert not patience.holds()
    assert not (tmp_path / PAUSE).exists()


@pytest.fixture
def touched(monkeypatch):
    """Counts the touches of a file by who keeps training paused, which come at once."""
    monkeypatch.setattr(module, "BEAT", 0.001)
    count, utime = threading.Semaphore(0), os.utime

    def hear(path):
        utime(path)
        count.release()

    monkeypatch.setattr(os, "utime", hear)
    return count


def check_kept(patience, clock, touched):
    for _ in range(3):
        assert patience.holds()
        clock.now += 0.9 * GONE
        for _ in range(2):  # the first may have been under way
            assert touched.acquire(timeout=30)


def test_who_lives_keeps_it(tmp_path, patience, clock, touched):
    pause = Pause(tmp_path)
    pause.ask(True)
    check_kept(patience, clock, touched)
    pause.end()
    assert not patience.holds()


def test_who_asks_again_keeps_it_too(tmp_path, patience, clock, touched):
    pause = Pause(tmp_path)
    pause.ask(True)
    Pause(tmp_path).ask(False)  # at another front end
    for thread in threading.enumerate():
        if thread.name == "pause":
            thread.join(timeout=30)  # there is nothing to touch
    while touched.acquire(blocking=False):
        pass
    pause.ask(True)
    check_kept(patience, clock, touched)
    pause.end()
    assert not patience.holds()


def test_a_file_made_by_hand_stays(tmp_path, patience, clock):
    (tmp_path / PAUSE).touch()
    for _ in range(3):
        assert patience.holds()
        clock.now += 2 * GONE
    (tmp_path / PAUSE).unlink()
    assert not patience.holds()
