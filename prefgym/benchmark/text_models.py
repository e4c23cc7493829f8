"""Language models of text tasks as methods use them: with the weights and on the tokens that a pool holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from prefgym.agents.dpo import response_log_probs
from prefgym.agents.fine_tuning import Encoded, padding_of
from prefgym.agents.reward_heads import make_reward_model
from prefgym.agents.reward_model import RewardModelConfig
from prefgym.agents.sft import ResponseCollator
from prefgym.agents.text_policy import STORY, TextPolicy, load_policy
from prefgym.agents.text_reward import TextRewardEnsemble
from prefgym.benchmark.methods import View
from prefgym.text import PADDING

REWARD = RewardModelConfig(epochs=3.0, batch_size=4, learning_rate=3e-3, held_out=0.0)
"""As `prefgym text` fits its own."""

BATCH = 256
"""Responses whose log-probabilities are computed at a time."""


def policy_with(weights: Mapping[str, NDArray[np.float32]]) -> TextPolicy:
    """The small language model with these weights."""
    policy = load_policy(STORY)
    policy.model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return policy


def weights_of(policy: TextPolicy) -> dict[str, NDArray[np.float32]]:
    """A copy of a policy's weights."""
    return {name: value.detach().float().numpy().copy() for name, value in policy.model.state_dict().items()}


def policy_of(view: View) -> TextPolicy:
    """The language model after its fine-tuning, which a view's rewards begin with."""
    return policy_with(view.policy)


def text_reward(view: View, members: int, seed: int, optimism: float) -> TextRewardEnsemble:
    """An untrained reward: fresh heads on the language model's trunk."""
    policy = policy_of(view)
    model = make_reward_model(policy.model, policy.tokenizer, members, seed)
    return TextRewardEnsemble(model, replace(REWARD, seed=seed), optimism=optimism)


def encoded(observations: NDArray, actions: NDArray) -> list[Encoded]:
    """Responses [C, L], padded, with the lengths [C] of their prompts, as tokens."""
    rows = observations.reshape(len(observations), -1).astype(np.int64)
    starts = actions.reshape(-1).astype(int).tolist()
    return [Encoded(tuple(row[row != PADDING].tolist()), start) for row, start in zip(rows, starts, strict=True)]


def texts_of(policy: TextPolicy, observations: NDArray, actions: NDArray) -> list[tuple[str, str]]:
    """Prompt and response of each."""
    text = policy.codec.text
    return [(text(one.tokens[: one.start]), text(one.tokens[one.start :])) for one in encoded(observations, actions)]


@torch.no_grad()
def log_probs(policy: TextPolicy, observations: NDArray, actions: NDArray) -> NDArray[np.float64]:
    """Log-probability [C] of each whole response, nats."""
    policy.model.eval()
    return np.concatenate([np.zeros(0), *_batches(policy, encoded(observations, actions))])


def _batches(policy: TextPolicy, items: list[Encoded]) -> Iterator[NDArray]:
    collator = ResponseCollator(padding_of(policy.tokenizer))
    for start in range(0, len(items), BATCH):
        batch = collator(items[start : start + BATCH])
        batch["goal"] = batch.pop("labels")
        yield response_log_probs(policy.model, batch).double().numpy()
