"""`stable_baselines3.PPO`, not forked, for a causal language model on a text environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from prefgym.agents import distributed
from prefgym.agents.advantages import ADVANTAGES, KLPenalty
from prefgym.agents.causal_lm import CausalLMPolicy
from prefgym.agents.control import check_positive
from prefgym.agents.decoding import Sampling
from prefgym.agents.language_model import checkpoint_activations, load_causal_lm, with_lora
from prefgym.agents.pretraining import PretrainingMix
from prefgym.agents.scoring import ScoringOptions
from prefgym.agents.token_buffer import TokenRolloutBuffer
from prefgym.agents.vec_env import VectorAdapter


@dataclass(frozen=True)
class TextPPOConfig:
    """Options of PPO on text. An episode is a response; a rollout is one response of every row of the environment.

    Attributes:
        batch_size: responses of a minibatch, of all processes together; divides the environments' rows.
        n_epochs: passes over a rollout.
        learning_rate: of AdamW without weight decay; 1e-5 suits full weights of a real model, 1e-4 LoRA, 1e-3 a model
            of less than a million parameters.
        clip_range: of PPO's ratio.
        clip_range_vf: of the change of the values; None does not clip.
        gamma: discount per token.
        gae_lambda: of generalised advantage estimation.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus; only with one are exact entropies computed.
        max_grad_norm: PPO's gradient is clipped to this norm.
        target_kl: SB3's: an update stops once new and old policy are 1.5 times this far apart; None never stops it, as
            several processes must, since each would see another KL.
        advantage: "gae" with a critic; "rloo" or "grpo" without, from the environment's K samples per prompt.
        kl_coefficient: reward per nat of KL from the reference; where an adaptive one starts.
        kl_estimator: "k1" in the reward, or "k3" as GRPO's loss has it (see `KLPenalty`).
        kl_target: KL per response, nats, that the coefficient is adapted to; None leaves it fixed.
        kl_horizon: responses over which it adapts.
        whiten_rewards: divide the penalised rewards by their deviation, keeping their mean.
        whiten_advantages: GAE advantages to mean 0 and deviation 1 over a rollout.
        temperature: of everything: drawing, old, new and reference log-probabilities.
        top_p: of drawing alone; importance weights make up for it (see `CausalLMPolicy`).
        importance_cap: of those weights.
        engine: that decodes: "transformers" or "vllm".
        chunk_tokens: written tokens whose logits exist at a time.
        micro_batch_size: responses whose activations exist at a time in training, for a forward more; None is a
            minibatch's, computed once.
        rollout_batch_size: responses decoded, and scored without gradients, at a time; None is all.
        bf16: bfloat16 autocast.
        gradient_checkpointing: the model's own, layer by layer.
        lora_rank: of LoRA adapters on every linear layer of the trunk (needs peft); 0 trains the full weights.
        lora_alpha: their scale.
        ptx_coefficient: weight of the pretraining loss; 0 is plain PPO.
        ptx_batch_size: pretraining texts a step, of all processes together.
        device: torch's name, or "auto".
    """

    batch_size: int = 8
    n_epochs: int = 2
    learning_rate: float = 1e-5
    clip_range: float = 0.2
    clip_range_vf: float | None = None
    gamma: float = 1.0
    gae_lambda: float = 0.95
    vf_coef: float = 0.1
    ent_coef: float = 0.0
    max_grad_norm: float = 1.0
    target_kl: float | None = None
    advantage: str = "gae"
    kl_coefficient: float = 0.05
    kl_estimator: str = "k1"
    kl_target: float | None = None
    kl_horizon: int = 10_000
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    importance_cap: float = 2.0
    engine: str = "transformers"
    chunk_tokens: int = 1024
    micro_batch_size: int | None = None
    rollout_batch_size: int | None = 128
    bf16: bool = False
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: int = 16
    ptx_coefficient: float = 0.0
    ptx_batch_size: int = 8
    device: str = "auto"

    def __post_init__(self) -> None:
        check_positive(self, "batch_size", "n_epochs", "learning_rate", "clip_range", "gamma", "max_grad_norm")
        check_positive(self, "importance_cap", "chunk_tokens", "ptx_batch_size")
        for name in ("micro_batch_size", "rollout_batch_size", "clip_range_vf", "target_kl"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        for name in ("vf_coef", "ent_coef", "lora_rank", "ptx_coefficient"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}")
        if self.advantage not in ADVANTAGES:
            raise ValueError(f"`advantage` must be one of {', '.join(ADVANTAGES)}, got {self.advantage!r}")
        _ = self.kl, self.sampling  # which check their own options

    @property
    def kl(self) -> KLPenalty:
        """The penalty at its start."""
        return KLPenalty(self.kl_coefficient, self.kl_estimator, self.kl_target, self.kl_horizon)

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.temperature, self.top_p)

    @property
    def scoring(self) -> ScoringOptions:
        """How responses are scored."""
        return ScoringOptions(
            chunk_tokens=self.chunk_tokens,
            micro_batch_size=self.micro_batch_size,
            rollout_batch_size=self.rollout_batch_size,
            bf16=self.bf16,
            entropy=self.ent_coef > 0,
        )


def make_text_ppo(
    env: VecEnv | VectorEnv,
    model: str | Path | nn.Module,
    config: TextPPOConfig | None = None,
    *,
    reference: nn.Module | None = None,
    critic: nn.Module | None = None,
    pretraining: Sequence[Sequence[int]] = (),
    engine_options: dict[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> PPO:
    """PPO that trains a language model; `learn(steps)` counts N × T steps a rollout.

    Started by torchrun (see `prefgym.agents.distributed.joined`), it trains one model on the rows of all processes,
    each with an environment of its own, and shares the weights out (FSDP2). Then `learn` counts this process's steps.

    Args:
        env: a `prefgym/TextGeneration-v0` vector environment, wrapped or not, or an adapter around it.
        model: trained in place if it is a module; a folder or a hub id is loaded.
        config: options; None is the defaults.
        reference: the frozen model that KL is taken from; None is the policy as it is now.
        critic: a reward model (sequence classifier) to start a critic of its own from; None is a head on the trunk.
            Neither is made for "rloo" and "grpo".
        pretraining: token numbers of texts for PPO-ptx, with `config.ptx_coefficient`.
        engine_options: of the decoding engine.
        seed: of everything random, the environment included; of several processes each draws by `seed` + rank.
        options: of `stable_baselines3.PPO`.

    Raises:
        ValueError: options that do not fit the environment or the model.
        ImportError: peft or vLLM is asked for and not installed.
    """
    config = config or TextPPOConfig()
    env = VectorAdapter(env) if isinstance(env, VectorEnv) else env
    samples = int(_said(env, "samples_per_prompt"))
    _check_rows(env, config, samples)
    if bool(pretraining) != (config.ptx_coefficient > 0):
        raise ValueError(f"`pretraining` goes with `ptx_coefficient` above 0, got {config.ptx_coefficient}")
    ppo = PPO(
        CausalLMPolicy,
        env,
        n_steps=int(_said(env, "max_response_length")),
        batch_size=distributed.part("batch_size", config.batch_size),
        n_epochs=config.n_epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        clip_range_vf=config.clip_range_vf,
        normalize_advantage=False,  # the buffer does it, over the rollout
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef if config.advantage == "gae" else 0.0,
        max_grad_norm=config.max_grad_norm,
        target_kl=config.target_kl,
        rollout_buffer_class=TokenRolloutBuffer,
        rollout_buffer_kwargs=_buffer_options(config, samples),
        policy_kwargs=_policy_options(env, model, config, seed)
        | {"critic": _critic(config, critic), "reference": reference, "engine_options": engine_options},
        seed=seed + distributed.rank(),
        device=config.device,
        **options,
    )
    return _joined(ppo, config, pretraining, seed)


def _joined(ppo: PPO, config: TextPPOConfig, pretraining: Sequence[Sequence[int]], seed: int) -> PPO:
    """Tells the buffer who writes, and hooks PPO-ptx in."""
    assert isinstance(ppo.rollout_buffer, TokenRolloutBuffer)
    assert isinstance(ppo.policy, CausalLMPolicy)
    ppo.rollout_buffer.policy = ppo.policy
    ppo.policy.bootstraps = False
    if pretraining:
        texts, own = distributed.part("ptx_batch_size", config.ptx_batch_size), seed + distributed.rank()
        mix = PretrainingMix(ppo.policy.scorer, pretraining, config.ptx_coefficient, texts, own)
        mix.attach(ppo.policy.optimizer)
        ppo.policy.pretraining = mix
    return ppo


def _check_rows(env: VecEnv, config: TextPPOConfig, samples: int) -> None:
    rows = env.num_envs * distributed.size()
    if rows % config.batch_size:
        raise ValueError(f"`batch_size` must divide the environment's {rows} rows, got {config.batch_size}")
    if distributed.size() > 1 and (config.target_kl is not None or config.engine != "transformers"):
        raise ValueError("several processes need target_kl=None and engine='transformers'")
    if config.advantage != "gae" and samples < 2:
        raise ValueError(f"advantage={config.advantage!r} needs an environment with `samples_per_prompt` of 2 or more")


def _critic(config: TextPPOConfig, critic: nn.Module | None) -> str | nn.Module | None:
    if config.advantage != "gae":
        return None
    return "head" if critic is None else critic


def _buffer_options(config: TextPPOConfig, samples: int) -> dict[str, Any]:
    return {
        "kl": config.kl,
        "advantage": config.advantage,
        "samples_per_prompt": samples,
        "whiten_rewards": config.whiten_rewards,
        "whiten_advantages": config.whiten_advantages,
    }


def _policy_options(env: VecEnv, model: str | Path | nn.Module, config: TextPPOConfig, seed: int) -> dict[str, Any]:
    codec = _said(env, "codec")
    return {
        "model": _prepared(model, config, seed),
        "max_response_length": int(_said(env, "max_response_length")),
        "ends": codec.ends,
        "pad": codec.pad,
        "sampling": config.sampling,
        "engine": config.engine,
        "options": config.scoring,
        "importance_cap": config.importance_cap,
        "mesh": distributed.mesh(get_device(config.device)),
        "optimizer_kwargs": {"weight_decay": 0.0, "fused": True},
    }


def _said(env: VecEnv, name: str) -> Any:
    try:
        return env.get_attr(name)[0]
    except AttributeError as error:
        raise ValueError(f"`env` must be a text environment with `{name}`, got {env}") from error


def _prepared(source: str | Path | nn.Module, config: TextPPOConfig, seed: int) -> nn.Module:
    """The model, with adapters and gradient checkpointing if they are asked for."""
    model: Any = load_causal_lm(source)
    if config.lora_rank:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = with_lora(model, config.lora_rank, config.lora_alpha)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    return model


class TextStatistics(BaseCallback):
    """Records the buffer's statistics of every rollout under "text/" in SB3's log, and keeps them in `history`.

    An environment made with ``render_mode="human"`` is told the rewards and the KL of each token, for its `render`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        if self.training_env.render_mode == "human":
            self.training_env.env_method("annotate", **buffer.notes)
        statistics = dict(buffer.statistics)
        self.history.append(statistics)
        for name, value in statistics.items():
            self.logger.record(f"text/{name}", value)
