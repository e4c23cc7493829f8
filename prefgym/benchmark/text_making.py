"""Making the pool of a text task: what one language model says while it learns, from its own language to the task.

Its stages are those of control, with other words: "random" is a model of the language that was never told the task,
"early" the same after fine-tuning on demonstrations, "half" and "expert" it is in the middle and at the end of PPO on
the true score. Rewards begin with the weights of "early".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO

from prefgym.agents.sft import SFTConfig, sft
from prefgym.agents.small_lm import pretrain
from prefgym.agents.text_policy import STORY, TextPolicy, load_policy
from prefgym.agents.text_ppo import TextPPOConfig, make_text_ppo
from prefgym.benchmark.pools import STAGES, Pool, PoolSpec
from prefgym.benchmark.tasks import Task
from prefgym.benchmark.text_models import BATCH, weights_of
from prefgym.envs.text import TextGenerationVectorEnv
from prefgym.envs.text_tasks import TextTask, text_tasks
from prefgym.recorder import FIELDS, Pieces
from prefgym.text import PADDING

PRETRAINING_STEPS = 1000
SFT = SFTConfig(epochs=1.0, batch_size=16, learning_rate=1e-3)
PPO_CONFIG = TextPPOConfig(batch_size=32, learning_rate=5e-4, kl_coefficient=0.05, advantage="rloo", device="cpu")
"""Of all three, what `prefgym text` does for its model from scratch."""

ROWS, SAMPLES = 128, 4
"""Responses of a rollout of PPO, and how many of them are to one prompt."""

TOGETHER = 4
"""Candidates to one prompt that are compared with each other; held-out queries have prompts of their own."""

TRIES = 20
"""Rounds of drawing after which a model that says the same again and again is given up."""


def make_text_pool(task: Task, spec: PoolSpec, on_progress: Callable[[float], None] = lambda share: None) -> Pool:
    """Trains from scratch, and draws what each stage says: a few minutes.

    Raises:
        ValueError: a stage has too few different responses.
    """
    torch.set_num_threads(1)
    told, policy = text_tasks[task.text](spec.seed), load_policy(STORY, seed=spec.seed)
    assert told.pretraining is not None
    parts: list[tuple[Pieces, Pieces]] = []
    returns: list[float] = []

    def record(steps: int) -> None:
        writer = Writer(policy, told, steps, spec.seed * len(STAGES) + len(parts))
        parts.append((writer.draw(told.prompts, task.scale * spec.candidates, TOGETHER),
                      writer.draw(told.held_out, 2 * spec.queries, 2)))  # fmt: skip
        returns.append(float(parts[-1][1].rewards.mean()))
        on_progress(len(parts) / len(STAGES))

    pretrain(policy.model, policy.tokenizer, told.pretraining(20 * PRETRAINING_STEPS), steps=PRETRAINING_STEPS,
             seed=spec.seed)  # fmt: skip
    record(0)
    sft(policy.model, policy.tokenizer, [(one.prompt, one.response) for one in told.demonstrations], SFT)
    weights = weights_of(policy)
    record(0)
    agent = make_text_ppo(text_env(told, policy, ROWS, SAMPLES), policy.model, PPO_CONFIG, seed=spec.seed)
    for half in np.array_split(np.arange(rollouts(task, spec.steps, told)), 2):
        learn(agent, len(half))
        record(agent.num_timesteps)
    facts = {"random_return": returns[0], "expert_return": returns[-1], "agent": "ppo"}
    facts |= {"returns": dict(zip(STAGES, returns, strict=True))}
    return Pool(_joined([first for first, _ in parts]), _joined([second for _, second in parts]), facts, "", weights)


def text_env(told: TextTask, policy: TextPolicy, rows: int, samples: int) -> TextGenerationVectorEnv:
    """The environment of a text task, with its true score as reward."""
    return TextGenerationVectorEnv(
        rows,
        prompts=list(told.prompts),
        tokenizer=policy.tokenizer,
        reward=told.gold,
        max_prompt_length=told.max_prompt_tokens,
        max_response_length=told.max_response_tokens,
        samples_per_prompt=samples,
        vocabulary=policy.vocabulary,
    )


def rollouts(task: Task, steps: int, told: TextTask) -> int:
    """Of PPO, in so many env steps (tokens); 0 for as many as the task says; at least 2."""
    return max(2, (steps or task.expert_steps) // (ROWS * told.max_response_tokens))


def learn(agent: PPO, count: int) -> None:
    """So many rollouts."""
    if count:
        agent.learn(count * agent.n_steps * agent.n_envs, reset_num_timesteps=False)


class Said(NamedTuple):
    """A response.

    Attributes:
        group: those of one group are to one prompt.
        prompt: as text.
        tokens: of prompt and response.
        start: where the response begins.
    """

    group: int
    prompt: str
    tokens: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Writer:
    """Draws what a policy says.

    Args:
        policy: that says it.
        told: the task.
        steps: env steps that it has learned for.
        seed: of what is drawn.
    """

    policy: TextPolicy
    told: TextTask
    steps: int
    seed: int

    def draw(self, prompts: Sequence[str], count: int, together: int) -> Pieces:
        """`count` responses, `together` different ones to a prompt at a time, beside each other as one group.

        Prompts come in an order by lot, and again, as other groups, where they are too few.

        Raises:
            ValueError: the policy says the same again and again.
        """
        wanted = -(-count // together)
        rng = np.random.default_rng([self.seed, wanted, together])
        rounds = -(-2 * wanted // len(prompts))
        order = [prompts[number] for _ in range(rounds) for number in rng.permutation(len(prompts))]
        groups: list[dict[tuple[int, ...], Said]] = [{} for _ in order]
        for _ in range(TRIES):
            lacking = [number for number, found in enumerate(groups) if len(found) < together]
            if len(groups) - len(lacking) >= wanted:
                whole = [found for found in groups if len(found) == together]
                return self.pieces([said for found in whole for said in found.values()][:count])
            for said in self.write(order, lacking[:wanted], int(rng.integers(2**31))):
                groups[said.group].setdefault(said.tokens, said)
        raise ValueError(f"{len(groups) - len(lacking)} groups of {together} different responses were found, and "
                         f"{wanted} are to be drawn")  # fmt: skip

    def answers(self, prompts: Sequence[str], samples: int) -> Pieces:
        """So many responses to each prompt, beside each other, whether they differ or not."""
        return self.pieces(self.write(prompts, np.repeat(np.arange(len(prompts)), samples).tolist(), self.seed))

    def write(self, prompts: Sequence[str], numbers: Sequence[int], seed: int) -> list[Said]:
        """A response to each of these numbers of prompts."""
        said = self.policy.write(
            [prompts[number] for number in numbers],
            seed=seed,
            batch_size=BATCH,
            max_tokens=self.told.max_response_tokens,
            max_prompt_tokens=self.told.max_prompt_tokens,
        )
        return [
            Said(number, prompts[number], (*prompt, *response), len(prompt))
            for number, (prompt, response) in zip(numbers, said, strict=True)
        ]

    def pieces(self, said: Sequence[Said]) -> Pieces:
        """Responses with what they are truly worth; of an action, there is the length of the prompt."""
        width = self.told.max_prompt_tokens + self.told.max_response_tokens
        seen = np.full((len(said), 1, width), PADDING, np.float32)
        for place, one in enumerate(said):
            seen[place, 0, : len(one.tokens)] = one.tokens
        return Pieces(
            seen,
            np.array([[[one.start]] for one in said], np.float32),
            np.zeros((len(said), 1, 0), np.float32),
            np.array([[self._gold(one)] for one in said], np.float32),
            np.full(len(said), self.steps, np.int64),
            np.array([one.group for one in said], np.int64),
        )

    def _gold(self, said: Said) -> float:
        assert self.told.gold is not None
        return self.told.gold(said.prompt, self.policy.codec.text(said.tokens[said.start :]))


def _joined(parts: Sequence[Pieces]) -> Pieces:
    """One after another, each with groups of its own."""
    starts = np.cumsum([0, *(part.groups.max() + 1 for part in parts)])
    groups = np.concatenate([part.groups + start for part, start in zip(parts, starts, strict=False)])
    named = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*FIELDS, "steps")}
    return Pieces(**named, groups=groups)
