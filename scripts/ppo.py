"""prefgym ppo: the third of InstructGPT's three steps, a policy trained on a reward, and nobody is asked anything."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from prefgym.agents.control import check_positive
from prefgym.agents.distributed import joined
from prefgym.agents.text_policy import TextPolicy
from prefgym.agents.text_ppo import TextPPOConfig
from prefgym.envs.gold import golds
from prefgym.envs.prompts import load_prompts
from prefgym.envs.text_tasks import find_gold
from prefgym.scripts.conduct import stopping
from prefgym.scripts.ppo_training import PPOTraining
from prefgym.scripts.text_steps import Step, check_free, console, is_small, open_model, told


def _usual() -> TextPPOConfig:
    return TextPPOConfig(batch_size=8, advantage="rloo")


@dataclass(frozen=True)
class PPOStepConfig:
    """Train a causal language model by PPO on a learned reward, or on a function, close to what it was.

    metrics.csv has a row a rollout: the KL from the initial policy, the score, the length and, with --gold, the true
    worth. AutoModelForCausalLM and AutoTokenizer load the folder. Ctrl-C or a termination saves after the present
    rollout, and checkpoints are kept from time to time: the same command goes on.

    Attributes:
        model: the initial policy: a folder or hub id of a causal language model, such as what prefgym sft leaves; also
            story and smollm2.
        reward: folder or hub id of a reward model (prefgym reward, any classifier with one label), or a run that has
            one; or a gold function's name, or module:function, called with prompt and response.
        prompts: .jsonl, .csv, .parquet or .txt, with a column prompt where there are columns.
        out: folder to be made.
        gold: name or module:function of what responses are truly worth: measured, never trained on.
        pretraining: .jsonl, .csv, .parquet or .txt of texts (a column text), for PPO-ptx: see --ptx-coefficient.
        prompt_tokens: room for a prompt, with its chat template.
        response_tokens: room for a response.
        rollouts: of PPO; each is a response of every row.
        rows: responses written at once, by all processes together.
        samples: responses to each prompt, K.
        reference: responses of the initial policy on which a reward model's rewards are given mean 0 and deviation 1,
            so that one KL coefficient suits all; 0 leaves them as they are.
        missing_eos_penalty: taken from the reward of a response that does not come to an end.
        seed: of everything random.
        ppo: options of PPO. A model of less than 5 million parameters has 128 rows, 60 rollouts, minibatches of 32 and
            the learning rate 5e-4; any other 32 rows, 30 rollouts, and 1e-5 or, with --lora-rank, 1e-4, unless told
            otherwise.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    reward: Annotated[str, tyro.conf.arg(metavar="FOLDER|NAME|MODULE:FUNCTION")]
    prompts: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    gold: Annotated[str | None, tyro.conf.arg(metavar="NAME|MODULE:FUNCTION")] = None
    pretraining: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    prompt_tokens: int = 64
    response_tokens: int = 48
    rollouts: int = 30
    rows: int = 32
    samples: int = 4
    reference: int = 128
    missing_eos_penalty: float = 0.0
    seed: int = 0
    ppo: Annotated[TextPPOConfig, tyro.conf.arg(name="")] = field(default_factory=_usual)

    def __post_init__(self) -> None:
        check_positive(self, "prompt_tokens", "response_tokens", "rollouts", "rows", "samples")
        for name in ("reference", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}")
        for name in filter(None, (self.gold, self.reward if self.by_function else None)):
            find_gold(name)  # what does not exist is said before anything takes time

    @property
    def by_function(self) -> bool:
        """Whether the reward is a function, and no model."""
        return self.reward in golds or (":" in self.reward and not Path(self.reward).exists())


@joined()
def main(arguments: Sequence[str]) -> int:
    """Trains, saves, and says what came of it; returns 0, or 128 and the signal's number after Ctrl-C."""
    config = told(PPOStepConfig, "ppo", arguments)
    check_free(config.out)
    prompts = load_prompts(config.prompts)
    policy = open_model(config.model, config.seed)
    config = told(PPOStepConfig, "ppo", arguments, defaults(config, policy))
    with Step("ppo", config, arguments, prompts) as step:
        step.console.print(f"PPO of {config.model} on {config.reward}, {len(prompts):,} prompts")
        training = PPOTraining(config, policy, prompts)
        with stopping(cast(Any, training)) as received:  # which asks for `stop_requested` alone
            training.train(step.console)
        if not training.finished:
            step.pause()
            return 128 + (received or [signal.SIGTERM])[0]  # another process may have been told
        training.policy.save(config.out)
        _say(training, config, step.finish(training.figures()))
    return 0


def defaults(config: PPOStepConfig, policy: TextPolicy) -> PPOStepConfig:
    """What is usual for such a model."""
    if is_small(policy.model):
        usual = replace(_usual(), batch_size=32, learning_rate=5e-4, device="cpu")
        return replace(config, rollouts=60, rows=128, ppo=usual)
    rate = 1e-4 if config.ppo.lora_rank else TextPPOConfig.learning_rate
    return replace(config, ppo=replace(_usual(), learning_rate=rate))


def _say(training: PPOTraining, config: PPOStepConfig, seconds: float) -> None:
    say, first, last = console(stderr=False), training.rows[0], training.rows[-1]
    name = "gold" if config.gold else "score"
    say.print(
        f"[bold green]{name} {first[name]:.3f} → {last[name]:.3f}[/], means of the first and the last of "
        f"{len(training.rows)} rollouts, at {last['kl']:.1f} nats of KL a response; {seconds:.0f} s"
    )
    if last["bad_samples"]:
        say.print(f"  [bold red]{last['bad_samples']:,} scores failed[/]: as a reward 0, as gold left out of the mean")
    say.print(f"  {config.out}")
    say.print(f"  prefgym compare {config.out} {config.model}")
