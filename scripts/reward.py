"""prefgym reward: the second of InstructGPT's three steps, from rankings of responses to a reward model."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from prefgym.agents.control import check_positive
from prefgym.agents.distributed import joined
from prefgym.agents.fine_tuning import quiet
from prefgym.agents.reward_heads import is_classifier, make_reward_model, save_reward_model
from prefgym.agents.reward_model import RewardModelConfig, RewardReport, fit_reward_model
from prefgym.agents.text_policy import NAMED, STORY, TextPolicy, load_policy, load_tokenizer
from prefgym.scripts.step_data import StepData
from prefgym.scripts.text_steps import NONE_HELD_OUT, SAVE_SECONDS, Step, check_free, console, is_small, told
from prefgym.text import Ranking


def _usual() -> RewardModelConfig:
    return RewardModelConfig(
        epochs=3.0,
        batch_size=4,
        save_seconds=SAVE_SECONDS,
        progress=sys.stderr.isatty(),
    )


@dataclass(frozen=True)
class RewardStepConfig:
    """Fit a reward model to rankings of responses: several heads on one trunk, whose disagreement tells what to ask.

    AutoModelForSequenceClassification loads the folder (the first head; the others are in heads.safetensors, and
    config.json has what is added to a score: reward_bias, and what it is then multiplied by: reward_scale). Who stops
    it, by Ctrl-C or a kill, goes on from the last checkpoint by the same command.

    Attributes:
        model: story, smollm2, a folder or hub id of a causal language model, whose trunk it starts from; or of a
            reward model, such as any published classifier with one label.
        rankings: .jsonl, .csv or .parquet with prompt, chosen and rejected, as TRL has them, or .jsonl and .parquet
            with prompt, responses and ranks; or a run's folder or feedback.db, with its answers about texts.
        out: folder to be made.
        members: heads.
        depth: share of the layers of a language model's trunk, the first ones, that the reward model takes. From few
            comparisons a third of them learns more than all, and is quicker.
        policy: the initial policy: rewards have mean 0 on what it says to prompts of the rankings. Unless told
            otherwise it is MODEL, if that is a language model that was trained; None leaves the rewards as they are.
        reference: how many responses of it.
        response_tokens: of such a response, at most.
        training: options of the fit. Unless told otherwise, the learning rate is 1e-5, 1e-4 with less than all layers,
            and 3e-3 for a model of less than 5 million parameters.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    rankings: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RANKINGS")]
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    members: int = 2
    depth: float = 1.0
    policy: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    reference: int = 128
    response_tokens: int = 48
    training: Annotated[RewardModelConfig, tyro.conf.arg(name="")] = field(default_factory=_usual)

    def __post_init__(self) -> None:
        check_positive(self, "members", "reference", "response_tokens")


@joined()
def main(arguments: Sequence[str]) -> int:
    """Fits, saves, and says what came of it."""
    config = told(RewardStepConfig, "reward", arguments)
    check_free(config.out)
    base = _base(config)
    config = told(RewardStepConfig, "reward", arguments, defaults(config, base.model))
    data = StepData(base)
    rankings = data.rankings(config.rankings)
    with Step("reward", config, arguments, rankings) as step:
        step.console.print(f"Reward model from {config.model}, {len(rankings):,} rankings")
        reference = _reference(config, data, rankings)
        options: dict[str, Any] = {"reference": reference, "folder": step.checkpoints}
        report = fit_reward_model(base.model, base.tokenizer, rankings, config.training, **options)
        save_reward_model(base.model, config.out, base.tokenizer)
        _say(report, config, step.finish(asdict(report) | {"reference": len(reference)}))
    return 0


def defaults(config: RewardStepConfig, model: Any) -> RewardStepConfig:
    """What is usual for such a model."""
    rate = 3e-3 if is_small(model) else 1e-4 if config.depth < 1 else RewardModelConfig.learning_rate
    policy = None if config.model == STORY or is_classifier(config.model) else config.model
    return replace(config, policy=policy, training=replace(_usual(), learning_rate=rate))


def _base(config: RewardStepConfig) -> TextPolicy:
    """The reward model, not fitted yet, with its tokenizer."""
    seed = config.training.seed
    if config.model in NAMED:
        policy = load_policy(config.model, seed=seed)
        model = make_reward_model(policy.model, policy.tokenizer, config.members, seed, config.depth)
        return replace(policy, model=model)
    tokenizer = load_tokenizer(config.model)
    with quiet():
        model = make_reward_model(config.model, tokenizer, config.members, seed, config.depth)
    base = TextPolicy(model, tokenizer, bool(tokenizer.chat_template))
    _ = base.codec  # which checks the tokenizer
    return base


def _reference(config: RewardStepConfig, data: StepData, rankings: Sequence[Ranking]) -> list[tuple[str, str]]:
    """Prompts of the rankings, and what the initial policy says to them."""
    if config.policy is None:
        return []
    policy, rng = load_policy(config.policy, seed=config.training.seed), random.Random(config.training.seed)
    prompts = rng.choices(sorted({ranking.prompt for ranking in rankings}), k=config.reference)
    asked = [policy.put(data.asked[prompt]) if prompt in data.asked else prompt for prompt in prompts]
    plain = replace(policy, chat=False)  # as they are put already
    said = plain.respond(asked, seed=config.training.seed, max_tokens=config.response_tokens)
    return list(zip(prompts, said, strict=True))


def _say(report: RewardReport, config: RewardStepConfig, seconds: float) -> None:
    say, held = console(stderr=False), report.held_out
    say.print(
        f"[bold green]{held.accuracy:.1%} of {held.pairs:,} held-out pairs right[/], loss {-held.log_likelihood:.3f} "
        f"nats a pair (a coin has {math.log(2):.3f}), calibration error {held.calibration_error:.3f}"
        if held.pairs
        else NONE_HELD_OUT
    )
    say.print(
        f"  {report.rankings:,} rankings of {report.prompts:,} prompts, {report.steps:,} steps, {seconds:.0f} s; "
        + (f"mean 0 on what {config.policy} says" if config.policy else "not centred: that takes --policy")
    )
    say.print(f"  {config.out}")
    say.print(f"  prefgym ppo {config.policy or 'MODEL'} --reward {config.out} --prompts FILE --out FOLDER")
