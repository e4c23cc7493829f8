"""prefgym dpo: from rankings of responses to a policy that prefers what was preferred, without a reward model."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from prefgym.agents.distributed import joined
from prefgym.agents.dpo import DPOConfig, DPOReport, dpo
from prefgym.scripts.step_data import StepData
from prefgym.scripts.text_steps import (
    NONE_HELD_OUT,
    SAVE_SECONDS,
    Step,
    adapted,
    check_free,
    console,
    is_small,
    open_model,
    told,
)


def _usual() -> DPOConfig:
    return DPOConfig(save_seconds=SAVE_SECONDS, progress=sys.stderr.isatty())


@dataclass(frozen=True)
class DPOStepConfig:
    """Direct preference optimisation of a causal language model, which is kept close to what it was.

    The folder loads with AutoModelForCausalLM and AutoTokenizer. Who stops it, by Ctrl-C or a kill, goes on from the
    last checkpoint by the same command.

    Attributes:
        model: a folder or hub id of what was fine-tuned before, such as what prefgym sft leaves; also smollm2.
        rankings: .jsonl, .csv or .parquet with prompt, chosen and rejected, as TRL has them, or .jsonl and .parquet
            with prompt, responses and ranks; or a run's folder or feedback.db, with its answers about texts.
        out: folder to be made.
        lora_rank: of LoRA adapters (needs peft), which are merged into the saved weights; 0 trains the full weights.
        lora_alpha: their scale.
        training: options of the training. Unless told otherwise, the learning rate is 1e-5 with LoRA, and 3e-4 for a
            model of less than 5 million parameters.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    rankings: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RANKINGS")]
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    lora_rank: int = 0
    lora_alpha: int = 16
    training: Annotated[DPOConfig, tyro.conf.arg(name="")] = field(default_factory=_usual)


@joined()
def main(arguments: Sequence[str]) -> int:
    """Trains, saves, and says what came of it."""
    config = told(DPOStepConfig, "dpo", arguments)
    check_free(config.out)
    policy = open_model(config.model, config.training.seed)
    config = told(DPOStepConfig, "dpo", arguments, defaults(config, is_small(policy.model)))
    rankings = StepData(policy).rankings(config.rankings)
    with Step("dpo", config, arguments, rankings) as step:
        model = adapted(policy.model, config.lora_rank, config.lora_alpha, config.training.seed)
        step.console.print(f"DPO of {config.model} on {len(rankings):,} rankings")
        report = dpo(model, policy.tokenizer, rankings, config.training, folder=step.checkpoints)
        replace(policy, model=model).save(config.out)
        _say(report, config, step.finish(asdict(report)))
    return 0


def defaults(config: DPOStepConfig, small: bool) -> DPOStepConfig:
    """What is usual for such a model."""
    rate = 3e-4 if small else 1e-5 if config.lora_rank else DPOConfig.learning_rate
    return replace(config, training=replace(_usual(), learning_rate=rate))


def _say(report: DPOReport, config: DPOStepConfig, seconds: float) -> None:
    say, held = console(stderr=False), report.held_out
    say.print(
        f"[bold green]{held.accuracy:.1%} of {held.pairs:,} held-out pairs right[/], by a margin of {held.margin:.2f} "
        f"nats; the better response gained {held.chosen_gain:.2f} nats"
        if held.pairs
        else NONE_HELD_OUT
    )
    pairs = f"{report.trained.pairs:,} pairs trained on ({report.trained.accuracy:.1%} right)"
    loss = f"loss {report.training_loss:.3f} (a coin has {math.log(2):.3f})"
    say.print(f"  {pairs}, {loss}, {report.steps:,} steps, {seconds:.0f} s")
    say.print(f"  {config.out}")
    say.print(f"  prefgym compare {config.out} {config.model}")
