"""`prefgym play`: a trained run's policy, live in a window."""

import json
import os
import subprocess
import sys
import threading

import gymnasium as gym
import numpy as np
import pytest

from prefgym.agents.control import PPOConfig
from prefgym.plan import LoopConfig
from prefgym.runs import Run
from prefgym.scripts import main
from prefgym.scripts import play as verb
from prefgym.scripts.options import to_json
from prefgym.scripts.play import Performance, PlayConfig
from prefgym.scripts.train_config import TrainConfig
from prefgym.scripts.training import Training

ENV = "prefgym/Backflip-v0"
LIMIT = 60  # seconds after which a window that hangs is killed


def still(observation):
    return np.zeros(3, np.float32)


def height(observations, actions):
    return observations[:, 2]


def performance(**options):
    return Performance(gym.make(ENV), still, height, **options)


def poses(playing, count):
    return np.stack([playing.step().qpos for _ in range(count)])


def test_each_moment_is_simulated_when_it_is_asked_for():
    env = gym.make(ENV)
    playing = Performance(env, still, height, seed=5)
    twin = gym.make(ENV)
    twin.reset(seed=5)
    observation, reward, _, _, info = twin.step(np.zeros(3, np.float32))
    moment = playing.step()
    assert (moment.qpos == info["shown"]).all()
    assert moment.reward == observation[2]
    assert moment.revolutions == info["revolutions"]
    assert moment.clean_flips == 0
    assert moment.caption == f"episode 1 · true return {reward:.2f}".replace("-", "−")
    assert env.unwrapped.vector.get_state()["elapsed"] == [1]


def test_episodes_follow_each_other_and_restart_repeats_one():
    playing = performance(seed=5)
    first, second = poses(playing, 200), poses(playing, 3)
    assert not np.array_equal(first[:3], second)
    assert playing.episode == 1
    playing.restart()
    assert (poses(playing, 3) == second).all()
    assert (poses(performance(seed=6), 3) == second).all()


def test_it_ends_after_the_last_episode_and_restart_plays_that_again():
    playing = performance(episodes=2)
    poses(playing, 400)
    with pytest.raises(StopIteration):
        playing.step()
    playing.restart()
    assert playing.step().caption.startswith("episode 2")


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("episodes", "must be at least 1, got 0"),
        ("speed", "must be positive, got 0"),
        ("seed", "must be at least 0, got -1"),
    ],
)
def test_impossible_options_are_refused(tmp_path, capsys, option, rule):
    value = rule.rpartition(" ")[2]
    with pytest.raises(SystemExit) as exit_:
        main(["play", str(tmp_path), f"--{option}", value])
    assert exit_.value.code == 2
    assert f"`{option}` {rule}" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    assert main(["play", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"prefgym: {tmp_path} is not a run: it has no config.json\n"


def test_a_run_without_a_checkpoint_is_named(tmp_path, capsys):
    Run.create(tmp_path / "run", to_json(TrainConfig()))
    assert main(["play", str(tmp_path / "run")]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_an_environment_without_a_body_is_named(tmp_path, capsys):
    Run.create(tmp_path / "run", to_json(TrainConfig(env_id="CartPole-v1")))
    assert main(["play", str(tmp_path / "run")]) == 2
    assert "must be an environment whose robot can be drawn, got 'CartPole-v1'" in capsys.readouterr().err


def test_without_a_display_the_error_says_so(monkeypatch, capsys, run):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert main(["play", str(run.folder)]) == 2
    assert "no window can be opened" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was really trained, for a moment."""
    options = TrainConfig(
        envs=8,
        num_threads=1,
        out=tmp_path_factory.mktemp("runs") / "tiny",
        loop=LoopConfig(labels=4, steps=2400, sessions=1, explore_steps=800, segment_length=20),
        ppo=PPOConfig(n_steps=50, batch_size=400, n_epochs=1),
    )
    training = Training.start(options)
    training.train()
    training.close()
    return training.run


def hear(monkeypatch, run, **options):
    """What `play` would show of a run, without a window: moments, body and how it is to be shown."""
    shown = {}
    monkeypatch.setattr(verb, "show", lambda step, kinematics, **given: shown.update(given, step=step))
    verb.play(PlayConfig(run.folder, **options))
    return shown


def test_a_run_is_played_with_its_policy_and_its_learned_reward(monkeypatch, run):
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    shown = hear(monkeypatch, run, speed=0.5)
    moments = [shown["step"]() for _ in range(20)]
    assert moments[0].reward == hear(monkeypatch, run)["step"]().reward
    assert len({moment.reward for moment in moments}) > 10
    assert (shown["rate"], shown["speed"], shown["title"]) == (50, 0.5, f"tiny · {ENV}")
    assert before == {path: path.read_bytes() for path in before}


def test_stochastic_actions_are_other_ones(monkeypatch, run):
    calm, wild = (hear(monkeypatch, run, stochastic=stochastic)["step"] for stochastic in (False, True))
    assert (calm().qpos != wild().qpos).any()


WINDOW = """
import json, sys
from prefgym.envs.ink import pygame
from prefgym.scripts import main, play

class Performance(play.Performance):
    number = 0

    def step(self):
        self.number += 1
        if self.number == 10:
            state = {"driver": pygame.display.get_driver(), "title": pygame.display.get_caption()[0]}
            print(json.dumps(state), flush=True)
        if self.number == 60:
            pygame.image.save(pygame.display.get_surface(), sys.argv[2])
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        return super().step()

play.Performance = Performance
sys.exit(main(["play", sys.argv[1], "--speed", "4"]))
"""


def test_the_command_opens_a_window_and_closes_it(display, run, tmp_path):
    environment = {**os.environ, "DISPLAY": display, "SDL_VIDEODRIVER": "x11", "SDL_AUDIODRIVER": "dummy"}
    command = [sys.executable, "-c", WINDOW, str(run.folder), str(tmp_path / "window.png")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as window:
        timer = threading.Timer(LIMIT, window.kill)
        timer.start()
        said, errors = window.communicate()
        timer.cancel()
    assert window.returncode == 0, errors
    assert json.loads(said) == {"driver": "x11", "title": f"tiny · {ENV}"}
    assert (tmp_path / "window.png").stat().st_size > 5000
