"""Episodes per second of PPO on text, on one thread: where the time goes, and against TRL's.

    python benchmarks/text_ppo.py                                    # about 2 minutes
    python benchmarks/text_ppo.py --trl-python TRL/bin/python        # a venv with trl==1.12.0, the last with a PPO

A Llama of 4 layers, width 128 and a vocabulary of 2,048 with random weights answers prompts of 8 to 16 tokens with 24.
Policy, reference, critic and reward model are of that size each, in both; the first line has a head on the policy's
trunk in the critic's place, which TRL does not offer. Seconds are the process's CPU seconds on one thread, which a busy
machine disturbs less than the clock on the wall. Ours and TRL's take turns; of a turn's rollouts the median counts, and
the first is not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from summary import ONE_THREAD, machine, markdown
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from prefgym.agents.decoding import Sampling, TransformersEngine
from prefgym.agents.language_model import LanguageModel
from prefgym.agents.text_ppo import TextPPOConfig, make_text_ppo
from prefgym.envs.text import TextGenerationVectorEnv
from prefgym.vector import PreferenceReward

VOCABULARY, WIDTH, LAYERS, PROMPT = 2048, 128, 4, 16


@dataclass(frozen=True)
class TextPPOBenchmark:
    """What is run.

    Attributes:
        trl_python: the Python of a venv with TRL; without it, only ours runs.
        rows: responses of a rollout.
        batch_size: of a minibatch.
        epochs: over a rollout.
        response: tokens.
        rollouts: of a turn, beside the first.
        turns: of ours and TRL's.
        curve: response lengths for the decoding curve.
    """

    trl_python: Path | None = None
    rows: int = 64
    batch_size: int = 16
    epochs: int = 2
    response: int = 24
    rollouts: int = 4
    turns: int = 3
    curve: tuple[int, ...] = (16, 32, 64, 128, 256)


def tokenizer(vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, vocabulary)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def llama() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=512,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=1,
    )


def prompts(count: int = 256) -> list[str]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(PROMPT // 2, PROMPT + 1, count)
    return [" ".join(f"w{word}" for word in rng.integers(3, VOCABULARY, length)) for length in lengths]


class Judge:
    """A reward model that scores responses when they end, all that end in a step at once."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, observations: Any, actions: np.ndarray) -> np.ndarray:
        ended = np.flatnonzero((observations["waiting"] > 0) & (observations["length"] > 0))
        rewards = np.zeros(len(observations["length"]))
        if len(ended):
            tokens = torch.from_numpy(observations["tokens"][ended]).to(self.model.device)
            rewards[ended] = self.model(input_ids=tokens, attention_mask=tokens != 0).logits[:, 0].cpu().numpy()
        return rewards


class Stopwatch(BaseCallback):
    """CPU seconds when each rollout began."""

    def __init__(self) -> None:
        super().__init__()
        self.begins: list[float] = []

    def _on_rollout_start(self) -> None:
        self.begins.append(time.process_time())

    def _on_step(self) -> bool:
        return True


def agent(config: TextPPOBenchmark, *, own_critic: bool) -> PPO:
    torch.manual_seed(0)
    model, judge = LlamaForCausalLM(llama()), LlamaForSequenceClassification(llama())
    env = TextGenerationVectorEnv(
        config.rows,
        prompts=prompts(),
        tokenizer=tokenizer(),
        reward=None,
        max_prompt_length=PROMPT,
        max_response_length=config.response,
    )
    options = TextPPOConfig(batch_size=config.batch_size, n_epochs=config.epochs, device="cpu")
    return make_text_ppo(PreferenceReward(env, Judge(judge)), model, options, critic=judge if own_critic else None)


def ours(config: TextPPOBenchmark, *, own_critic: bool = True, made: PPO | None = None) -> float:
    """Episodes per CPU second."""
    trained, watch = made or agent(config, own_critic=own_critic), Stopwatch()
    trained.learn((config.rollouts + 2) * config.rows * config.response, callback=watch)
    return config.rows / float(np.median(np.diff(watch.begins)[1:]))


def theirs(config: TextPPOBenchmark, folder: Path) -> float:
    """Episodes per CPU second of TRL."""
    command = [str(config.trl_python), str(Path(__file__).with_name("text_ppo_trl.py")), str(folder)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("SECONDS ")]
    if done.returncode or not lines:
        raise RuntimeError(f"TRL: {done.stderr.strip()[-1500:]}")
    return config.rows / float(np.median(json.loads(lines[0].removeprefix("SECONDS "))))


def write_task(config: TextPPOBenchmark, folder: Path) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(llama()).save_pretrained(folder / "model")
    LlamaForSequenceClassification(llama()).save_pretrained(folder / "judge")
    tokenizer().save_pretrained(folder / "model")
    names = ("rows", "batch_size", "epochs", "rollouts", "response")
    task = {name: getattr(config, name) for name in names} | {"prompts": prompts()}
    (folder / "task.json").write_text(json.dumps(task))


def compare(config: TextPPOBenchmark) -> list[list[str]]:
    speeds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        write_task(config, Path(name))
        for _ in range(config.turns):
            speeds["prefgym, value head on the trunk"].append(ours(config, own_critic=False))
            speeds["prefgym, a critic of its own"].append(ours(config))
            if config.trl_python:
                speeds["TRL 1.12.0, a critic of its own"].append(theirs(config, Path(name)))
    peer = np.array(speeds.get("TRL 1.12.0, a critic of its own", [np.nan] * config.turns))
    return [
        [what, f"{np.median(taken):.1f}", " ".join(f"{one:.1f}" for one in taken), _ratio(np.array(taken) / peer)]
        for what, taken in speeds.items()
    ]


def _ratio(ratios: np.ndarray) -> str:
    return "" if np.isnan(ratios).any() else f"{np.median(ratios):.2f}"


class Shares:
    """CPU seconds spent in parts of the training, by wrapping what does them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, name: str, part: str) -> None:
        setattr(owner, name, self._timed(getattr(owner, name), part))

    def _timed(self, function: Callable, part: str) -> Callable:
        def timed(*inputs: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*inputs, **options)
            finally:
                self.seconds[part] += time.process_time() - began

        return timed


def profile(config: TextPPOBenchmark) -> list[list[str]]:
    """Shares of the time of a rollout and its updates."""
    trained, shares = agent(config, own_critic=True), Shares()
    policy: Any = trained.policy
    shares.watch(policy.engine, "decode", "decoding")
    shares.watch(policy, "_score", "old log-probabilities and values")
    shares.watch(policy, "reference_log_probs", "reference log-probabilities")
    shares.watch(policy, "predict_values", "values that SB3 asks for and does not use")
    shares.watch(trained.env, "step", "environment and reward model")
    shares.watch(policy, "evaluate_actions", "training: forward")
    shares.watch(policy.optimizer, "step", "training: optimizer")
    backward = torch.Tensor.backward
    try:
        shares.watch(torch.Tensor, "backward", "training: backward")
        began = time.process_time()
        ours(config, made=trained)
        total = time.process_time() - began
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
    shares.seconds["the rest (SB3's loops, hand-out, buffer)"] = total - sum(shares.seconds.values())
    return [[part, f"{spent / total:.1%}"] for part, spent in sorted(shares.seconds.items(), key=lambda item: -item[1])]


@torch.no_grad()
def without_cache(language: LanguageModel, tokens: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        drawn = language.logits(language.hidden(tokens)[:, -1]).argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, drawn], 1)


def curve(config: TextPPOBenchmark) -> list[list[str]]:
    """CPU milliseconds per token (of 16 rows each) with the cache and without."""
    torch.manual_seed(0)
    language = LanguageModel(LlamaForCausalLM(llama()))
    tokens, lengths = torch.randint(3, VOCABULARY, [16, PROMPT]), torch.full([16], PROMPT)
    engine, lines = TransformersEngine(language, (), 0), []
    for steps in config.curve:
        spent = []
        for run in (
            lambda steps=steps: engine.decode(tokens, lengths, steps, Sampling()),
            lambda steps=steps: without_cache(language, tokens, steps),
        ):
            began = time.process_time()
            run()
            spent.append(1000 * (time.process_time() - began) / steps)
        lines.append([str(steps), f"{spent[0]:.1f}", f"{spent[1]:.1f}"])
    return lines


def main(config: TextPPOBenchmark) -> None:
    torch.set_num_threads(1)
    print(machine())
    print(markdown(["", "episodes/CPU s", "turns", "÷ TRL"], compare(config)))
    print(markdown(["part", "share"], profile(config)))
    print(markdown(["tokens", "CPU ms/token, cache", "none"], curve(config)))


if __name__ == "__main__":
    main(tyro.cli(TextPPOBenchmark, description=__doc__))
