"""The benchmark's tasks: environments with a hidden reward, and how their pools of segments are made.

A text task's segments are whole responses, of one step each, and only those to one prompt can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gymnasium import spec
from gymnasium.envs.registration import load_env_creator

from prefgym.envs.text_tasks import text_tasks
from prefgym.registry import Registry

SECOND = 50
"""Env steps of one, in every task of control."""


@dataclass(frozen=True)
class Task:
    """A task, as data.

    Attributes:
        name: as results have it.
        env_id: Gymnasium id, so that others can use the environment alone.
        segment_length: env steps that a comparison shows of each side.
        expert_steps: env steps of PPO on the true reward after which its behaviour is taken to be an expert's.
        text: name of the task in `prefgym.envs.text_tasks`; "" for a task of control.
        scale: how many times a suite's comparisons and candidates this task takes: an answer about a text says less.
    """

    name: str
    env_id: str
    segment_length: int = SECOND
    expert_steps: int = 1_000_000
    text: str = ""
    scale: int = 1

    @property
    def kind(self) -> str:
        """Text or control."""
        return "text" if self.text else "control"

    @property
    def summary(self) -> str:
        """Where it is done, and what is to be done, in a line."""
        made = text_tasks[self.text] if self.text else load_env_creator(str(spec(self.env_id).vector_entry_point))
        clips = "" if self.text or self.segment_length == SECOND else f" Clips of {self.segment_length / SECOND:g} s."
        return f"{self.env_id}: {str(made.__doc__).partition(chr(10))[0]}{clips}"


backflip = Task("backflip", "prefgym/Backflip-v0")
hop = Task("hop", "prefgym/Hop-v0")
cheetah_run = Task("cheetah-run", "prefgym/CheetahRun-v0")
cheetah_stand = Task("cheetah-stand", "prefgym/CheetahStand-v0")
walker_walk = Task("walker-walk", "prefgym/WalkerWalk-v0")

backflip_short, hop_short, cheetah_run_short = (
    replace(task, name=f"{task.name}-short", segment_length=SECOND // 2) for task in (backflip, hop, cheetah_run)
)
backflip_long, hop_long, cheetah_run_long = (
    replace(task, name=f"{task.name}-long", segment_length=SECOND * 2) for task in (backflip, hop, cheetah_run)
)

story, glad_story, easy_story = (
    Task(name, "prefgym/TextGeneration-v0", 1, 200_000, text=name, scale=5)
    for name in ("story", "glad-story", "easy-story")
)

tasks = Registry(
    "task",
    {
        "backflip": "prefgym.benchmark.tasks:backflip",
        "hop": "prefgym.benchmark.tasks:hop",
        "cheetah-run": "prefgym.benchmark.tasks:cheetah_run",
        "cheetah-stand": "prefgym.benchmark.tasks:cheetah_stand",
        "walker-walk": "prefgym.benchmark.tasks:walker_walk",
        "backflip-short": "prefgym.benchmark.tasks:backflip_short",
        "backflip-long": "prefgym.benchmark.tasks:backflip_long",
        "hop-short": "prefgym.benchmark.tasks:hop_short",
        "hop-long": "prefgym.benchmark.tasks:hop_long",
        "cheetah-run-short": "prefgym.benchmark.tasks:cheetah_run_short",
        "cheetah-run-long": "prefgym.benchmark.tasks:cheetah_run_long",
        "story": "prefgym.benchmark.tasks:story",
        "glad-story": "prefgym.benchmark.tasks:glad_story",
        "easy-story": "prefgym.benchmark.tasks:easy_story",
    },
)
"""Name to `Task`."""
