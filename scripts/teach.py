"""prefgym teach: teach any robot anything, by clicks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from prefgym.envs.bodies import Body, SolidBody
from prefgym.envs.frames import OpenGLError
from prefgym.plan import LoopConfig
from prefgym.rewards.ensemble import EnsembleConfig
from prefgym.scripts.backflip import BackflipConfig, run
from prefgym.scripts.pace import PARENT
from prefgym.teachers import HUMAN


@dataclass(frozen=True)
class TeachConfig(BackflipConfig):
    """Teach a robot whatever you like, by saying which of two clips is better.

    You decide what is good, and answer by it: a bow, a hop in place, a front flip. Nothing else is told to the robot.

    Attributes:
        env_id: Gymnasium id of the robot's environment: one of prefgym's, or of Gymnasium's MuJoCo environments.
    """

    env_id: Annotated[str, tyro.conf.arg(name="env", metavar="ID")] = "prefgym/Backflip-v0"
    teacher: str = HUMAN
    feedback: Literal["window", "web", "terminal"] | None = "window"
    reward: EnsembleConfig = field(default_factory=EnsembleConfig)  # of all that is observed: it may be about anything


def main(arguments: Sequence[str]) -> int:
    """Trains while people answer; returns the exit code."""
    config = tyro.cli(TeachConfig, prog="prefgym teach", args=list(arguments))
    if PARENT in os.environ:  # this is the process that trains beside people: it opens no window of its own
        config = replace(config, feedback=None)
    return run(fitting(config), "teach", arguments)


def fitting(config: TeachConfig) -> TeachConfig:
    """The options with segments of about a second, whatever the environment's pace, unless they were given.

    Raises:
        ValueError: there is no such environment, or none of MuJoCo; or it cannot be shown here, for want of OpenGL.
    """
    if config.resume is not None:  # the run's own options hold
        return config
    body = Body.of(config.env_id)
    if body is None:
        raise ValueError(f"`env` must be an environment of MuJoCo whose robot can be drawn, got {config.env_id!r}")
    if isinstance(body, SolidBody) and config.feedback is not None:
        _check_opengl(config.env_id, body)
    if config.loop.segment_length != LoopConfig.segment_length:
        return config
    length = max(20, round(body.rate))
    window, explore = max(config.loop.window, 2 * length), max(config.loop.explore_steps, 2 * length * config.envs)
    return replace(config, loop=replace(config.loop, segment_length=length, window=window, explore_steps=explore))


def _check_opengl(env_id: str, body: SolidBody) -> None:
    """Better now than when the first clips are to be shown."""
    try:
        body.film(body.view.model.qpos0[None])
    except OpenGLError as error:
        raise ValueError(f"`env` {env_id} cannot be shown here: {error}") from error
