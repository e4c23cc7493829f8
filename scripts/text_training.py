"""The training of a language model put together: its task, its first two steps, and the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from stable_baselines3 import PPO

from prefgym.agents.causal_lm import CausalLMPolicy
from prefgym.agents.reward_heads import make_reward_model
from prefgym.agents.sft import sft
from prefgym.agents.small_lm import pretrain
from prefgym.agents.text_policy import STORY, TextPolicy, load_policy
from prefgym.agents.text_ppo import make_text_ppo
from prefgym.agents.text_reward import TextRewardEnsemble
from prefgym.agents.token_buffer import TokenRolloutBuffer
from prefgym.agents.vec_env import VectorAdapter
from prefgym.envs.text import TextGenerationVectorEnv
from prefgym.envs.text_tasks import TextTask, own_task, text_tasks
from prefgym.loop import PreferenceLoop, Report
from prefgym.overoptimisation import Watch
from prefgym.queries import queries
from prefgym.runs import Run
from prefgym.scripts.course import Course
from prefgym.teachers import make_teacher
from prefgym.text_recorder import TextRecorder
from prefgym.vector import PreferenceReward

if TYPE_CHECKING:
    from prefgym.scripts.text import TextConfig

logger = logging.getLogger(__name__)

STATISTICS = ("kl", "kl_coefficient", "score", "length")
SFT = "sft"
"""Folder in a run, of the policy that PPO began with, where demonstrations or pretraining changed it."""


def make_task(config: TextConfig) -> TextTask:
    """The task that a run is told, by name or by files.

    Raises:
        PromptError, TextFormatError: files that cannot be read.
        UnknownNameError: a name that does not exist.
    """
    if config.prompts is None:
        return text_tasks[config.task_name](config.seed)
    return own_task(
        config.prompts,
        config.gold,
        demonstrations=config.demonstrations,
        max_prompt_tokens=config.prompt_tokens,
        max_response_tokens=config.response_tokens,
        seed=config.seed,
    )


def first_policy(config: TextConfig, task: TextTask, run: Run, say: Console) -> TextPolicy:
    """The policy that PPO begins with: pretrained if it is made from scratch, and fine-tuned to the demonstrations.

    It is kept in the run's folder if it was trained, and read from there once it is.
    """
    folder = run.folder / SFT
    if folder.exists():
        return load_policy(folder)
    policy = load_policy(config.model, seed=config.seed)
    if config.model == STORY:
        _pretrain(policy, config, task, say)
    if task.demonstrations:
        _fine_tune(policy, config, task, say)
    if config.model == STORY or task.demonstrations:
        draft = run.folder / f"{SFT}.new"
        policy.save(draft)
        draft.rename(folder)
    return policy


def _pretrain(policy: TextPolicy, config: TextConfig, task: TextTask, say: Console) -> None:
    if task.pretraining is None:
        raise ValueError(f"`model` {STORY} knows no other language than the task's {STORY}: give a model with --model")
    texts = task.pretraining(20 * config.pretraining_steps)
    losses = pretrain(policy.model, policy.tokenizer, texts, steps=config.pretraining_steps, seed=config.seed)
    say.print(f"1  language model: {np.mean(losses[-20:]):.2f} nats a token")


def _fine_tune(policy: TextPolicy, config: TextConfig, task: TextTask, say: Console) -> None:
    shown = [(policy.put(prompt), response) for prompt, response in task.demonstrations]
    report = sft(policy.model, policy.tokenizer, shown, config.sft)
    say.print(f"2  SFT: {report.initial_loss:.2f} → {report.held_out_loss:.2f} nats a token, held out")


class Plain:
    """Prompts as people write them, whatever the model is given.

    Args:
        policy: puts prompts into its chat template.
        prompts: all there are.
        limit: tokens of a prompt that are kept.
    """

    def __init__(self, policy: TextPolicy, prompts: Sequence[str], limit: int) -> None:
        self.policy = policy
        self.put = [policy.put(prompt) for prompt in prompts]
        self.plain = dict(zip(self.put, prompts, strict=True))
        tokens = policy.codec.prompts(self.put, limit)
        self._prompts = {tuple(row.tolist()): prompt for row, prompt in zip(tokens, prompts, strict=True)}

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; of a prompt's, the prompt."""
        return self._prompts.get(tuple(tokens)) or self.policy.codec.text(tokens)

    def gold(self, score: Callable[[str, str], float] | None) -> Callable[[str, str], float] | None:
        """The gold function for prompts as they are put."""
        return None if score is None else lambda prompt, response: score(self.plain[prompt], response)


class TextTraining(Course):
    """PPO on a reward that is learned from comparisons of responses: the loop of the robot, with a language model.

    Args:
        config: budgets and options.
        run: its folder.
        task: prompts and gold.
        policy: what PPO begins with; it is trained in place.
    """

    agent: PPO

    def __init__(self, config: TextConfig, run: Run, task: TextTask, policy: TextPolicy) -> None:
        super().__init__(config, run)
        self.task, self.chat = task, policy.chat
        self.plain = Plain(policy, task.prompts, task.max_prompt_tokens)
        source = config.reward_from or policy.model
        heads = make_reward_model(source, policy.tokenizer, config.members, config.seed, config.reward_depth)
        self.model = TextRewardEnsemble(heads, config.reward, close=config.close)
        self.recorder = TextRecorder(config.explore, self.plain.decode, config.samples)
        self.env = self._env(policy)
        self.adapter = VectorAdapter(self.env)
        self.agent = make_text_ppo(
            self.adapter, policy.model, config.ppo, pretraining=self._pretraining(policy), seed=config.seed
        )
        self.tokenizer = policy.tokenizer
        self.watch, self.history = Watch(), []  # type: tuple[Watch, list[dict[str, float]]]
        self.parted = False
        self.loop = self._make_loop()

    def _env(self, policy: TextPolicy) -> PreferenceReward:
        config, task = self.config, self.task
        env = TextGenerationVectorEnv(
            config.rows,
            prompts=self.plain.put,
            tokenizer=policy.tokenizer,
            reward=self.plain.gold(task.gold),
            max_prompt_length=task.max_prompt_tokens,
            max_response_length=task.max_response_tokens,
            missing_eos_penalty=config.missing_eos_penalty,
            samples_per_prompt=config.samples,
            vocabulary=policy.vocabulary,
        )
        return PreferenceReward(env, recorder=self.recorder)

    def _pretraining(self, policy: TextPolicy) -> list[list[int]]:
        """Texts for PPO-ptx, if it is asked for."""
        config = self.config
        if not config.ppo.ptx_coefficient:
            return []
        if self.task.pretraining is None:
            raise ValueError("`ppo.ptx-coefficient` needs a task with pretraining texts, such as story: set it to 0")
        texts = self.task.pretraining(20 * config.pretraining_steps)
        end = [int(policy.tokenizer.eos_token_id)]
        return [list(ids) + end for ids in policy.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _make_loop(self) -> PreferenceLoop:
        config = self.config
        return PreferenceLoop(
            self.agent,
            self.env,
            self.model,
            make_teacher(config.teacher, self.store, seed=config.seed),
            queries[config.query](),
            self.store,
            config.budgets(self.task.max_response_tokens),
            rollout=config.rows * self.task.max_response_tokens,
            seed=config.seed,
            name=config.query,
            explorer=lambda observations: self.agent.predict(observations)[0],
            before_rollout=self.pace.wait,
            on_rollout=self.after_rollout,
            on_session=self.after_session,
        )

    @property
    def policy(self) -> TextPolicy:
        """The policy as it is now."""
        assert isinstance(self.agent.policy, CausalLMPolicy)
        return TextPolicy(self.agent.policy.language.model, self.tokenizer, self.chat)

    @property
    def parts(self) -> Mapping[str, Any]:
        """What has a state, beside the agent and the reward model."""
        parts = {"loop": self.loop, "adapter": self.adapter, "recorder": self.recorder, "watch": self.watch}
        parts |= {"env": self.env.unwrapped, "buffer": self._buffer, "notes": self}
        mix = self.agent.policy.pretraining
        return parts if mix is None else parts | {"pretraining": mix}

    def get_state(self) -> dict[str, Any]:
        """What was noted of every rollout."""
        return {"history": self.history, "parted": self.parted}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from `get_state`."""
        self.history, self.parted = state["history"], state["parted"]

    @property
    def _buffer(self) -> TokenRolloutBuffer:
        assert isinstance(self.agent.rollout_buffer, TokenRolloutBuffer)
        return self.agent.rollout_buffer

    def after_rollout(self) -> None:
        """Notes what the rollout came to."""
        said = self.recorder.last()
        gold = [one.reward for one in said]
        row = {name: float(self._buffer.statistics[name]) for name in STATISTICS} | {"gold": float(np.mean(gold))}
        self.history.append(row)
        self.watch.add(row["kl"], [one.tokens for one in said], gold)
        for name, value in row.items():
            self.agent.logger.record(f"text/{name}", value)
        super().after_rollout()

    def row(self, report: Report) -> dict[str, Any]:
        """What metrics.csv says of a session."""
        last = self.history[-1] if self.history else dict.fromkeys((*STATISTICS, "gold"), float("nan"))
        measured = {"new_accuracy": report.new_accuracy, "reward_correlation": report.reward_correlation}
        return self.common(report) | last | measured | {"parted": int(self.parted)}

    def keep(self, report: Report) -> None:
        """Gives alarm, once, where the learned reward and the true one part."""
        parting = None if self.parted or self.task.gold is None else self.watch.parting(self.model.score)
        if parting is not None:
            self.parted = True
            logger.warning("Over-optimisation: %s", parting)

    def episode(self) -> tuple[np.ndarray, float]:
        """Nothing: a text has no poses."""
        return np.zeros((0, 0), np.float32), float("nan")


def respond(policy: TextPolicy, task: TextTask, prompts: Sequence[str], config: TextConfig, seed: int) -> list[str]:
    """Responses to prompts [P], drawn as in training."""
    limits = {"max_tokens": task.max_response_tokens, "max_prompt_tokens": task.max_prompt_tokens}
    with torch.no_grad():
        return policy.respond(prompts, seed=seed, sampling=config.ppo.sampling, **limits)
