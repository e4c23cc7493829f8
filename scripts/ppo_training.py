"""PPO of a language model on a reward that is there already: its parts put together, and its rollouts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.utils import get_device

from prefgym.agents import checkpoint, distributed
from prefgym.agents.causal_lm import CausalLMPolicy
from prefgym.agents.scoring import TokenScorer
from prefgym.agents.text_policy import TextPolicy
from prefgym.agents.text_ppo import make_text_ppo
from prefgym.agents.token_buffer import TokenRolloutBuffer
from prefgym.agents.vec_env import VectorAdapter
from prefgym.envs.prompts import load_prompts
from prefgym.envs.text import TextGenerationVectorEnv
from prefgym.envs.text_tasks import find_gold
from prefgym.runs import Run, RunError, read_state, write_state
from prefgym.scripts.course import CHECKPOINT_SECONDS, CHECKPOINT_SHARE
from prefgym.scripts.ppo_reward import ModelReward
from prefgym.scripts.text_steps import CHECKPOINTS
from prefgym.scripts.text_training import STATISTICS, Plain
from prefgym.text_recorder import TextRecorder
from prefgym.vector import PreferenceReward

if TYPE_CHECKING:
    from prefgym.scripts.ppo import PPOStepConfig

logger = logging.getLogger(__name__)

LINES = 10
"""Of progress, where there is no terminal for a bar."""


SHARED = "agent.pt"
"""In a checkpoint of several processes, all weights and the optimizer's state."""


class PPOTraining:
    """PPO in a folder: it can be stopped between rollouts, and goes on from there.

    Of several processes each has its share of the rows and of the prompts; the first one writes.

    Args:
        config: what to do.
        policy: the initial one, trained in place.
        prompts: as people write them.

    Attributes:
        stop_requested: set it, and training stops after the present rollout.
        rows: of metrics.csv, one a rollout.
    """

    def __init__(self, config: PPOStepConfig, policy: TextPolicy, prompts: Sequence[str]) -> None:
        self.config, self.initial, self.stop_requested = config, policy, False
        self.plain = Plain(policy, prompts, config.prompt_tokens)
        self.function = find_gold(config.reward) if config.by_function else None
        self.gold = find_gold(config.gold) if config.gold else None
        self.model = None if config.by_function else self._model(prompts)
        self.recorder = TextRecorder(1, self.plain.decode, config.samples)
        self.env = self._env()
        self.adapter = VectorAdapter(self.env)
        self.agent = make_text_ppo(
            self.adapter, policy.model, config.ppo, pretraining=self._pretraining(), seed=config.seed
        )
        self.run, self.kept = Run(config.out), Run(config.out / CHECKPOINTS)
        self.rows: list[dict[str, Any]] = []
        self._bad_golds, self._seconds = 0, 0.0

    def _model(self, prompts: Sequence[str]) -> ModelReward:
        config = self.config
        reward = ModelReward(
            config.reward, self.initial, self.plain, get_device(config.ppo.device), config.missing_eos_penalty
        )
        if config.reference:
            chosen = np.random.default_rng(config.seed).choice(len(prompts), config.reference).tolist()
            room = config.prompt_tokens, config.response_tokens
            reward.normalise([prompts[number] for number in chosen], seed=config.seed, room=room)
        return reward

    def _env(self) -> PreferenceReward:
        config = self.config
        env = TextGenerationVectorEnv(
            distributed.part("rows", config.rows),
            prompts=distributed.share(self.plain.put),
            tokenizer=self.initial.tokenizer,
            reward=self.plain.gold(self.function),
            max_prompt_length=config.prompt_tokens,
            max_response_length=config.response_tokens,
            missing_eos_penalty=config.missing_eos_penalty,
            samples_per_prompt=config.samples,
            vocabulary=self.initial.vocabulary,
        )
        return PreferenceReward(env, cast(Any, self.model), self.recorder)  # of a dict of arrays, as the recorder

    def _pretraining(self) -> list[list[int]]:
        """Texts for PPO-ptx."""
        if self.config.pretraining is None:
            if self.config.ppo.ptx_coefficient:
                raise ValueError("`ptx_coefficient` above 0 needs texts: give a file with --pretraining")
            return []
        texts = load_prompts(self.config.pretraining, "text")
        end = [int(self.initial.tokenizer.eos_token_id)]
        return [list(ids) + end for ids in self.initial.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    # Rollouts.

    @property
    def policy(self) -> TextPolicy:
        """The policy as it is now."""
        assert isinstance(self.agent.policy, CausalLMPolicy)
        return TextPolicy(self.agent.policy.language.model, self.initial.tokenizer, self.initial.chat)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return len(self.rows) == self.config.rollouts

    def train(self, console: Console) -> None:
        """Goes on from the last checkpoint, if there is one, to the end, or until it is asked to stop."""
        if self.kept.has_checkpoint:
            self._restore(self.kept.last_checkpoint)
        else:
            self._keep_metrics()
        self._began, saved, cost = time.monotonic() - self._seconds, time.monotonic(), 0.0
        with _bar(console, len(self.rows), self.config.rollouts) as advance:
            while not self.finished:
                self.agent.learn(self.adapter.num_envs * self.config.response_tokens, reset_num_timesteps=False)
                self._note()
                advance(self.rows[-1])
                began, due = time.monotonic(), max(CHECKPOINT_SECONDS, cost / CHECKPOINT_SHARE)
                self.stop_requested = distributed.any_of(self.stop_requested)
                if self.stop_requested or distributed.any_of(began - saved > due):
                    self._save()
                    saved = time.monotonic()
                    cost = saved - began
                if self.stop_requested:
                    return

    def figures(self) -> dict[str, Any]:
        """What came of it: the first rollout, which the initial policy said, and the last."""
        return {"first": self.rows[0], "last": self.rows[-1], "bad_samples": self.rows[-1]["bad_samples"]}

    def _note(self) -> None:
        """Writes a row of the rollout."""
        self._seconds = time.monotonic() - self._began
        steps = self.agent.num_timesteps * distributed.size()
        row: dict[str, Any] = {"rollout": len(self.rows) + 1, "steps": steps}
        row |= {"seconds": round(self._seconds, 3)} | {name: self._buffer.statistics[name] for name in STATISTICS}
        row |= {"gold": self._measured()} if self.gold else {}
        bad = int(self._text.get_state()["bad_rewards"].sum()) + (self.model.bad if self.model else 0)
        self.rows.append(row | {"bad_samples": int(distributed.total(bad + self._bad_golds))})
        if distributed.is_first():
            self.run.append(self.rows[-1])

    def _keep_metrics(self) -> None:
        if distributed.is_first():
            self.run.keep_metrics(len(self.rows))

    def _measured(self) -> float:
        """The mean true worth of the rollout's responses; nan if there is none of any."""
        pairs = [(one.tokens[: one.prompt_length], one.tokens[one.prompt_length :]) for one in self.recorder.last()]
        found = [self._worth(self.plain.decode(asked), self.plain.policy.codec.text(said)) for asked, said in pairs]
        known = [worth for worth in found if math.isfinite(worth)]
        count, summed = distributed.total([len(known), sum(known)]).tolist()
        return summed / count if count else math.nan

    def _worth(self, prompt: str, response: str) -> float:
        """What the gold function says; nan, counted, where it fails: it is anybody's code."""
        try:
            worth = float(self.gold(prompt, response))  # type: ignore[misc]
            if not math.isfinite(worth):
                raise ValueError(f"`gold` must return a finite number, got {worth}")
        except Exception as error:
            if not self._bad_golds:
                logger.warning(
                    "`gold` failed on %r: %s: %s. Such samples are counted", prompt, type(error).__name__, error
                )
            self._bad_golds += 1
            return math.nan
        return worth

    # Checkpoints.

    @property
    def _text(self) -> TextGenerationVectorEnv:
        assert isinstance(self.env.unwrapped, TextGenerationVectorEnv)
        return self.env.unwrapped

    @property
    def _buffer(self) -> TokenRolloutBuffer:
        assert isinstance(self.agent.rollout_buffer, TokenRolloutBuffer)
        return self.agent.rollout_buffer

    @property
    def _parts(self) -> dict[str, Any]:
        parts = {"adapter": self.adapter, "recorder": self.recorder, "env": self._text, "buffer": self._buffer}
        mix = self.agent.policy.pretraining
        return parts if mix is None else parts | {"pretraining": mix}

    def _save(self) -> None:
        """Keeps a checkpoint: the first process writes the weights as a whole, and the state of each."""
        weights = distributed.whole_state(*self._trained) if distributed.size() > 1 else None
        states = distributed.all_of(self._state())
        if distributed.is_first():
            self.kept.folder.mkdir(exist_ok=True)
            self.kept.save(lambda folder: self._write(folder, states, weights))

    @property
    def _trained(self) -> tuple[TokenScorer, torch.optim.Optimizer]:
        assert isinstance(self.agent.policy, CausalLMPolicy)
        return self.agent.policy.scorer, self.agent.policy.optimizer

    def _state(self) -> dict[str, Any]:
        state = {name: part.get_state() for name, part in self._parts.items()}
        state |= {"agent": checkpoint.agent_state(self.agent), "generators": checkpoint.generator_states()}
        bad = [self._bad_golds, self.model.bad if self.model else 0]
        return state | {"rows": self.rows, "bad": bad, "seconds": self._seconds}

    def _write(self, folder: Path, states: Sequence[Mapping[str, Any]], weights: Any) -> None:
        if weights is None:
            checkpoint.save_agent(self.agent, folder / "agent.zip")
        else:
            torch.save(weights, folder / SHARED)
        for rank, state in enumerate(states):
            write_state(folder, _state_of(rank), state)

    def _restore(self, folder: Path) -> None:
        begun = sum((folder / f"{_state_of(rank)}.json").exists() for rank in range(distributed.size() + 1))
        if begun != distributed.size():
            raise RunError(
                f"{folder} is not of {distributed.size()} processes: go on with as many as it was begun with"
            )
        state = read_state(folder, _state_of(distributed.rank()))
        if distributed.size() > 1:
            weights = torch.load(folder / SHARED, weights_only=True, mmap=True)  # of which each takes its share
            distributed.set_whole_state(*self._trained, weights)
        else:
            checkpoint.load_parameters(self.agent, folder / "agent.zip")
        self.adapter.reset()
        for name, part in self._parts.items():
            part.set_state(state[name])
        checkpoint.set_agent_state(self.agent, state["agent"])
        self.rows, self._seconds, self._bad_golds = state["rows"], state["seconds"], state["bad"][0]
        if self.model is not None:
            self.model.bad = state["bad"][1]
        self._keep_metrics()
        checkpoint.set_generator_states(state["generators"])


def _state_of(rank: int) -> str:
    """Name of a process's state in a checkpoint."""
    return f"state-{rank}" if rank else "state"


@contextmanager
def _bar(console: Console, done: int, total: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar in a terminal, else some lines. Gives what is told each row of figures."""
    columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as live:
        task = live.add_task("writing", total=total, completed=done)

        def advance(row: Mapping[str, Any]) -> None:
            line = f"score {row['score']:.3f}  KL {row['kl']:.2f} nats  {row['length']:.0f} tokens"
            line += f"  gold {row['gold']:.3f}" if "gold" in row else ""
            live.update(task, completed=row["rollout"], description=line)
            if not console.is_terminal and (row["rollout"] * LINES // total) > (row["rollout"] - 1) * LINES // total:
                console.print(f"{row['rollout']:>5}/{total}  {line}")

        yield advance
