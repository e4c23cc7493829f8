"""prefgym text: a language model from demonstrations, comparisons and PPO, in a row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from prefgym.agents.control import check_positive
from prefgym.agents.reward_model import RewardModelConfig
from prefgym.agents.sft import SFTConfig
from prefgym.agents.text_policy import STORY
from prefgym.agents.text_ppo import TextPPOConfig
from prefgym.envs.text_tasks import find_gold, text_tasks
from prefgym.plan import LoopConfig
from prefgym.queries import queries
from prefgym.runs import EVALUATION, Run, RunError
from prefgym.scripts.conduct import conduct
from prefgym.scripts.options import changed, from_json, to_json
from prefgym.scripts.text_training import TextTraining, first_policy, make_task
from prefgym.teachers import HUMAN, check_teacher

WITH_RESUME = ("resume", "feedback")  # options that may go with --resume


@dataclass(frozen=True)
class TextConfig:
    """Teach a language model: demonstrations, comparisons of what it says, and PPO on the reward that they teach.

    Without options, a small model and its language are made from scratch. Ctrl-C saves, and says how to go on.

    Attributes:
        model: story, a small model made from scratch; smollm2, fetched from PyPI once; or a folder or hub id of any
            causal language model. The defaults of the other options follow it.
        task: what is to be learned: story, sentiment (texts that sound glad) or explain (to a child).
        prompts: a file of prompts (.jsonl, .csv, .parquet, .txt) for a task of your own, in place of `task`.
        gold: with `prompts`, what synthetic teachers answer by and the report measures: a gold function's name or
            module:function, called with prompt and response. Not needed where people answer.
        demonstrations: with `prompts`, a file of good responses for SFT.
        prompt_tokens: with `prompts`, room for a prompt, with its chat template.
        response_tokens: with `prompts`, room for a response.
        comparisons: that the teacher is asked for.
        teacher: who answers: oracle, rational, myopic, mistaken, skipping, equal or noisy; or human: training then
            waits for people, who answer at `prefgym label RUN`.
        feedback: let people answer, at a window, in browsers (web) or in the terminal, while training goes on beside.
        query: how it is chosen what to ask: uniform, on-policy, disagreement, entropy or information.
        sessions: in how many portions comparisons are asked for, and the reward model fitted.
        up_front: share of the comparisons asked for before PPO.
        explore: responses of each row before any training: what the first comparisons are about.
        rollouts: of PPO; each is a response of every row.
        rows: responses written at once.
        samples: responses to each prompt, K.
        members: heads of the reward model.
        reward_from: a folder or hub id of a smaller language model, or a reward model, that the reward model starts
            from; the policy's trunk unless given.
        reward_depth: share of that trunk's layers, the first ones, that the reward model takes.
        close: put an end behind responses that were cut off, before the reward model scores them: for tasks in which
            most are.
        missing_eos_penalty: taken from the reward of a response that does not come to an end.
        pretraining_steps: of the model made from scratch.
        tries: responses to each held-out prompt, when a policy is measured.
        seed: of everything random.
        out: the run's folder; by default a new one under runs/.
        store: URL of an empty database for queries and answers, for a team; by default the run's own feedback.db.
        resume: a run to go on with; its own options hold.
        sft: options of the supervised fine-tuning.
        reward: options of the reward model.
        ppo: options of PPO.
    """

    model: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = STORY
    task: str | None = None
    prompts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    gold: str | None = None
    demonstrations: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    prompt_tokens: int = 64
    response_tokens: int = 48
    comparisons: int = 500
    teacher: str = "oracle"
    feedback: Literal["window", "web", "terminal"] | None = None
    query: str = "uniform"
    sessions: int = 8
    up_front: float = 0.5
    explore: int = 4
    rollouts: int = 60
    rows: int = 128
    samples: int = 4
    members: int = 2
    reward_from: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    reward_depth: float = 1.0
    close: bool = False
    missing_eos_penalty: float = 0.0
    pretraining_steps: int = 1000
    tries: int = 8
    seed: int = 0
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    store: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    sft: SFTConfig = field(default_factory=lambda: SFTConfig(epochs=1.0, batch_size=16, learning_rate=1e-3))
    reward: RewardModelConfig = field(
        default_factory=lambda: RewardModelConfig(epochs=3.0, batch_size=4, learning_rate=3e-3, held_out=0.0)
    )
    ppo: TextPPOConfig = field(
        default_factory=lambda: TextPPOConfig(
            batch_size=32, learning_rate=5e-4, kl_coefficient=0.05, advantage="rloo", device="cpu"
        )
    )

    def __post_init__(self) -> None:
        check_positive(self, "comparisons", "rollouts", "rows", "samples", "members", "pretraining_steps", "sessions")
        check_positive(self, "explore", "prompt_tokens", "response_tokens", "tries")
        check_teacher(self.teacher)
        _ = queries[self.query]
        self._check_task()

    def _check_task(self) -> None:
        """A task is named, or given by files."""
        if self.prompts is None:
            _ = text_tasks[self.task_name]
            for name in ("gold", "demonstrations"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` goes with --prompts, a task of your own; {self.task_name} has its own")
        elif self.task is not None:
            raise ValueError(f"`task` and `prompts` exclude each other, got {self.task} and {self.prompts}")
        elif self.gold is not None:
            find_gold(self.gold)
        elif self.teacher != HUMAN and self.feedback is None:
            raise ValueError(f"`gold` must be given for the teacher {self.teacher}, or --feedback for people")

    @property
    def task_name(self) -> str:
        """The task that is meant."""
        return self.task or (STORY if self.model == STORY else "sentiment")

    @property
    def folder(self) -> Path:
        """Of the run."""
        name = self.prompts.stem if self.prompts else self.task_name
        return self.out or Path("runs") / f"text-{name}-{time.strftime('%Y%m%d-%H%M%S')}-seed{self.seed}"

    def budgets(self, response_tokens: int) -> LoopConfig:
        """Budgets, in tokens: a share of the comparisons of what the first policy says, the rest while it learns."""
        rollout = self.rows * response_tokens
        return LoopConfig(
            labels=self.comparisons,
            steps=(self.rollouts + self.explore) * rollout,
            sessions=self.sessions,
            up_front=self.up_front,
            until=0.6,
            explore_steps=self.explore * rollout,
            segment_length=1,
            window=self.explore,
            reference=self.explore,
        )


REAL = replace(
    TextConfig(model="smollm2"),
    comparisons=300,
    sessions=6,  # of which those after the first only report, and watch for over-optimisation
    up_front=1.0,
    explore=12,
    rollouts=24,
    rows=32,
    reward_depth=1 / 3,
    close=True,
    tries=4,
    sft=SFTConfig(epochs=1.0, batch_size=8, learning_rate=1e-5),
    reward=RewardModelConfig(epochs=3.0, batch_size=4, learning_rate=1e-4, held_out=0.0),
    ppo=TextPPOConfig(
        batch_size=8, learning_rate=3e-4, kl_coefficient=0.05, advantage="rloo", lora_rank=16, temperature=0.7
    ),
)
"""Defaults of a published model, with LoRA: about 40 minutes for 135 million parameters on two cores."""


def main(arguments: Sequence[str]) -> int:
    """Runs all steps, and writes models, figures, the report and the model card; returns 0, or 130 after Ctrl-C."""
    return run(parse(arguments), arguments)


def parse(arguments: Sequence[str]) -> TextConfig:
    """The options; defaults follow the model."""
    return tyro.cli(TextConfig, prog="prefgym text", args=list(arguments), default=defaults(_model(arguments)))


def defaults(model: str) -> TextConfig:
    """The options for a model, unless told otherwise."""
    return TextConfig() if model == STORY else replace(REAL, model=model)


def _model(arguments: Sequence[str]) -> str:
    """What --model says, before anything else is read."""
    spoken = [argument.partition("=") for argument in arguments]
    for number, (name, equals, value) in enumerate(spoken):
        if name == "--model":
            return value if equals else "".join(arguments[number + 1 : number + 2]) or STORY
    return STORY


def run(config: TextConfig, arguments: Sequence[str]) -> int:
    """Trains here, or beside a front end where people answer."""
    if config.feedback is not None:
        from prefgym.scripts.people import train_with_people

        return train_with_people(config.feedback, config, config.folder, "text", arguments)
    return conduct("text", lambda: begin(config), finish)


def begin(config: TextConfig) -> TextTraining:
    """A new run, or an old one to go on with.

    Raises:
        ValueError: options beside --resume.
        RunError: the run to resume is finished, or is none of text.
    """
    if config.resume is not None:
        folder = Run.open(config.resume)
        config = _resumed(config, folder)
    else:
        folder = Run.create(config.folder, to_json(config))
    task = make_task(config)
    policy = first_policy(config, task, folder, Console(stderr=True, highlight=False))
    training = TextTraining(config, folder, task, policy)
    training.begin()
    return training


def _resumed(config: TextConfig, run: Run) -> TextConfig:
    """The options of a run that is to go on."""
    given = [name for name in changed(config, defaults(config.model)) if name not in WITH_RESUME]
    if given:
        raise ValueError(f"a resumed run keeps its options: leave out `{'`, `'.join(given)}`, or begin a new run")
    if (run.folder / EVALUATION).exists():
        raise RunError(f"{run.folder} is finished: see prefgym info, or begin a new run")
    return config_of(run)


def config_of(run: Run) -> TextConfig:
    """What a run was told to do.

    Raises:
        RunError: it is none of text, or its options cannot be understood.
    """
    if not run.is_text:
        raise RunError(f"{run.folder} is no run of prefgym text: go on with it as it was begun")
    try:
        return from_json(TextConfig, run.options)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise RunError(f"{run.config_path} is damaged: {error}") from error


def finish(training: TextTraining) -> dict[str, Any]:
    """Measures, and writes the models, evaluation.json, the figure and CARD.md; prints what came out."""
    from prefgym.scripts.text_report import Result

    return Result.of(training).write()
