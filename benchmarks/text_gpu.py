"""A language model on one GPU: tokens a second of writing and of learning, against what the GPU could do at best.

    python benchmarks/text_gpu.py                                                       # GPT-2's size and 1.3B, an H200
    python benchmarks/text_gpu.py --sizes 1.3B --bandwidth 3.35 --episodes 4096         # an H100

Random weights: speed does not depend on what they are. Writing a token reads all weights and the cache once, so its
limit is the memory's bandwidth; learning from a token takes 6 operations a parameter, and 2 more where activations are
computed anew (gradient checkpointing), so its limit is that of the matrix units. The last table is a whole small
training: SFT, reward model and PPO with a critic of its own, with the episodes that are stated. **Never run on a GPU so
far.** On a CPU it runs with --sizes tiny, as the tests do, and its shares mean nothing.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.utils import get_device
from summary import machine, markdown
from text_ppo import Judge, tokenizer
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from prefgym.agents.decoding import Sampling
from prefgym.agents.reward_heads import make_reward_model
from prefgym.agents.reward_model import RewardModelConfig, fit_reward_model
from prefgym.agents.sft import SFTConfig, sft
from prefgym.agents.text_ppo import TextPPOConfig, make_text_ppo
from prefgym.envs.text import TextGenerationVectorEnv
from prefgym.text import Ranking
from prefgym.vector import PreferenceReward

SIZES = {"tiny": (2, 32, 2, 211), "gpt2": (12, 768, 12, 50257), "1.3B": (24, 2048, 16, 50257)}
"""Layers, width, heads and vocabulary."""

HALF = 2
"""Bytes of a bfloat16 number."""


@dataclass(frozen=True)
class TextGPUBenchmark:
    """Time a language model on one GPU.

    Attributes:
        sizes: of models, by name: tiny, gpt2, 1.3B.
        rows: responses written at once.
        prompt: tokens.
        response: tokens.
        batch_size: responses of a minibatch of PPO.
        micro_batch_size: responses of a forward and backward.
        episodes: of PPO, and as many demonstrations and rankings, in the whole training.
        turns: how often writing and learning are timed.
        bandwidth: of the GPU's memory, TB/s, by its data sheet.
        flops: of its matrix units in bfloat16 without sparsity, TFLOP/s, by its data sheet.
    """

    sizes: tuple[str, ...] = ("gpt2", "1.3B")
    rows: int = 128
    prompt: int = 64
    response: int = 128
    batch_size: int = 32
    micro_batch_size: int = 16
    episodes: int = 1024
    turns: int = 3
    bandwidth: float = 4.8
    flops: float = 989.0


def config_of(size: str) -> GPT2Config:
    layers, width, heads, vocabulary = SIZES[size]
    tokens = {"vocab_size": vocabulary, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "num_labels": 1}
    return GPT2Config(n_layer=layers, n_embd=width, n_head=heads, **tokens)


def texts(count: int, length: int, vocabulary: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in rng.integers(3, vocabulary, length)) for _ in range(count)]


def agent_of(size: str, config: TextGPUBenchmark, model: Any, judge: Any) -> PPO:
    vocabulary = SIZES[size][3]
    env = TextGenerationVectorEnv(
        config.rows,
        prompts=texts(256, config.prompt, vocabulary, 0),
        tokenizer=tokenizer(vocabulary),
        reward=None,
        max_prompt_length=config.prompt,
        max_response_length=config.response,
    )
    options = TextPPOConfig(
        batch_size=config.batch_size,
        micro_batch_size=config.micro_batch_size,
        bf16=get_device("auto").type == "cuda",
        gradient_checkpointing=True,
    )
    critic, judge = copy.deepcopy(judge), judge.to(get_device("auto"))
    return make_text_ppo(PreferenceReward(env, Judge(judge)), model, options, critic=critic)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def speeds(size: str, config: TextGPUBenchmark) -> list[list[str]]:
    """Lines for writing and for learning: tokens a second, and the share of the limit."""
    torch.manual_seed(0)
    agent = agent_of(size, config, GPT2LMHeadModel(config_of(size)), GPT2ForSequenceClassification(config_of(size)))
    policy: Any = agent.policy
    device, vocabulary = policy.device, SIZES[size][3]
    length = config.prompt + config.response
    tokens = torch.randint(3, vocabulary, [config.rows, length], device=device)
    lengths = torch.full([config.rows], config.prompt, device=device)

    def write() -> None:
        policy.set_training_mode(False)
        with torch.no_grad(), policy.scorer.options.autocast(device):
            policy.engine.decode(tokens[:, : config.prompt], lengths, config.response, Sampling())

    written = torch.zeros_like(tokens, dtype=torch.bool)
    written[:, config.prompt :] = True
    observations = {"tokens": tokens[: config.batch_size], "written": written[: config.batch_size]}

    def learn() -> None:
        policy.set_training_mode(True)
        values, log_probs, _ = policy.evaluate_actions(observations, observations["tokens"][observations["written"]])
        policy.optimizer.zero_grad()
        (log_probs.mean() + values.mean()).backward()
        policy.optimizer.step()

    layers, width = SIZES[size][:2]
    weights = sum(parameter.numel() for parameter in policy.language.parameters())
    trained = sum(parameter.numel() for parameter in policy.scorer.parameters())
    read = HALF * (weights + 2 * layers * width * config.rows * (config.prompt + config.response / 2))
    timed(write), timed(learn)  # the first time does not count
    # Steps a second, each of which reads all of it.
    wrote = config.response / np.array([timed(write) for _ in range(config.turns)])
    learned = config.batch_size * length / np.array([timed(learn) for _ in range(config.turns)])
    return [
        line(size, "writing", config.rows * wrote, wrote * read / 1e12 / config.bandwidth),
        line(size, "learning, policy and critic", learned, learned * 8 * trained / 1e12 / config.flops),
    ]


def line(size: str, what: str, tokens: np.ndarray, shares: np.ndarray) -> list[str]:
    spread = f"{np.median(tokens):,.0f} ({tokens.min():,.0f} to {tokens.max():,.0f})"
    return [size, what, spread, f"{np.median(shares):.1%}"]


def whole(size: str, config: TextGPUBenchmark) -> list[list[str]]:
    """Lines for the seconds of the three steps."""
    torch.manual_seed(0)
    vocabulary, model = SIZES[size][3], GPT2LMHeadModel(config_of(size))
    words, lengths = tokenizer(vocabulary), (config.prompt, config.response, config.response - 1)
    asked, good, bad = (texts(config.episodes, length, vocabulary, length) for length in lengths)
    common: Any = {
        "batch_size": config.micro_batch_size,
        "bf16": torch.cuda.is_available(),
        "gradient_checkpointing": True,
    }
    tuned = timed(lambda: sft(model, words, zip(asked, good, strict=True), SFTConfig(**common)))
    judge = make_reward_model(model, words)
    rankings = [Ranking(prompt, pair, (0, 1)) for prompt, *pair in zip(asked, good, bad, strict=True)]
    fitted = timed(lambda: fit_reward_model(judge, words, rankings, RewardModelConfig(**common)))
    agent = agent_of(size, config, model, judge)
    learned = timed(lambda: agent.learn(config.episodes * config.response))
    spent = {"SFT": tuned, "reward model": fitted, "PPO": learned}
    return [[size, name, f"{config.episodes:,}", f"{seconds:.1f}"] for name, seconds in spent.items()]


def main(config: TextGPUBenchmark) -> None:
    """Prints two tables."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    lines = [line for size in config.sizes for line in speeds(size, config)]
    print(markdown(["model", "what", "tokens/s", "of the limit"], lines))
    print(
        f"\n{config.rows} responses of {config.response} tokens to prompts of {config.prompt}; limits of "
        f"{config.bandwidth} TB/s and {config.flops:,} TFLOP/s. {where}; {machine()}.\n"
    )
    print(markdown(["model", "step", "episodes", "seconds"], whole(config.sizes[-1], config)))


if __name__ == "__main__":
    main(tyro.cli(TextGPUBenchmark))
