"""A causal language model as a policy of stable-baselines3."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from prefgym.agents import distributed
from prefgym.agents.decoding import Decoded, Sampling, make_engine
from prefgym.agents.handout import Draft, Handout
from prefgym.agents.language_model import LanguageModel, merged
from prefgym.agents.pretraining import PretrainingMix
from prefgym.agents.scoring import Critic, Scores, ScoringOptions, TokenScorer, ValueHead


class CausalLMPolicy(ActorCriticPolicy):
    """Writes the responses of a text environment, one token a step, and scores them for SB3's `PPO`.

    Whole responses are decoded when a row begins (and again after the environment's words), scored by the training
    model in the way of `evaluate_actions`, and handed out token by token: so PPO's first ratio is 1.

    Old, new and reference log-probabilities are all of the softmax of logits / temperature. Where tokens are drawn from
    another distribution, by top-p or by an engine with arithmetic of its own, each token has the importance weight
    min(π(token) / μ(token), `importance_cap`), μ being what it was drawn from; the buffer multiplies the advantage by
    it. Under top-p the weight is the probability of the nucleus, between `top_p` and 1. Tokens outside of the nucleus
    are never drawn, so nothing is learned of them.

    Args:
        observation_space: of the text environment.
        action_space: its Discrete(V).
        lr_schedule: SB3's.
        model: any `AutoModelForCausalLM`, or one with peft's adapters, a folder, or a hub id.
        max_response_length: T, tokens that the policy writes in an episode at most.
        ends: tokens that end a response.
        pad: token of the padding.
        critic: "head" for a linear value on the policy's trunk; a sequence classifier (a reward model) to start a
            critic of its own from; None for values of 0.
        reference: the frozen model that KL is taken from. None is the model as it is now: with adapters, the base with
            the adapters off; else a copy.
        sampling: temperature and top-p.
        engine: "transformers" or "vllm".
        engine_options: of the engine.
        options: of the scoring; its temperature is that of `sampling`.
        importance_cap: of the importance weights.
        mesh: the processes that the weights of policy, critic and reference are shared out over (FSDP2), each of which
            has rows of its own. While it writes, each holds the policy and the critic whole. None is one process.
        optimizer_class: of the weights that are trained.
        optimizer_kwargs: of the optimizer, without the learning rate.
        use_sde: SB3 passes it; must be False.

    Attributes:
        weights: importance weights [N] of the tokens that `forward` gave last.
        bootstraps: whether `predict_values` computes; `make_text_ppo` says no, since its episodes end with the rollout
            and SB3 would not use what it asks for then.
        pretraining: the mix of PPO-ptx, which `make_text_ppo` attaches to the optimizer; None without.

    Raises:
        ValueError: the model's vocabulary is not the environment's.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        model: str | Path | nn.Module,
        max_response_length: int,
        ends: Collection[int],
        pad: int,
        critic: str | nn.Module | None = "head",
        reference: nn.Module | None = None,
        sampling: Sampling | None = None,
        engine: str = "transformers",
        engine_options: dict[str, Any] | None = None,
        options: ScoringOptions | None = None,
        importance_cap: float = 2.0,
        mesh: DeviceMesh | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
        optimizer_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ) -> None:
        assert not use_sde, "a language model has no state-dependent exploration"
        BasePolicy.__init__(
            self, observation_space, action_space, optimizer_class=optimizer_class, optimizer_kwargs=optimizer_kwargs
        )
        language = LanguageModel(model)
        _check_vocabulary(language, int(action_space.n), "model")
        self.sampling, self.importance_cap = sampling or Sampling(), importance_cap
        self.max_response_length, self.pad = max_response_length, pad
        options = replace(options or ScoringOptions(), temperature=self.sampling.temperature)
        self.scorer = TokenScorer(language, _critic(critic, language), options)
        # In a tuple, so that it is neither trained nor saved as a part of the policy.
        self._reference = (_reference(reference, language, options, int(action_space.n)),)
        for scorer in filter(None, (self.scorer, *self._reference)):
            distributed.shard(scorer, mesh, bf16=options.bf16, doors=["within"])
        self.engine = make_engine(engine, language, ends, pad, **(engine_options or {}))
        self._handout: Handout | None = None
        self.weights = torch.ones(1)
        self.bootstraps = True
        self.pretraining: PretrainingMix | None = None
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.optimizer = optimizer_class(trained, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    @property
    def language(self) -> LanguageModel:
        """The model that writes."""
        return self.scorer.language

    def set_training_mode(self, mode: bool) -> None:
        """Training or evaluation mode; in the latter, in which SB3 writes a rollout, each process has all weights."""
        super().set_training_mode(mode)
        distributed.gather(self.scorer, whole=not mode)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Next tokens [N], values [N] and log-probabilities [N]; pad and zeros for rows that wait."""
        tokens, (log_probs, values, weights) = self._next(obs, deterministic, scored=True)
        self.weights = weights
        return tokens, values, log_probs

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Next tokens [N], without scoring them."""
        return self._next(observation, deterministic, scored=False)[0]

    @torch.no_grad()
    def _next(self, obs: Any, greedy: bool, scored: bool) -> tuple[Tensor, Tensor]:
        if self._handout is None or not self._handout.fits(obs["tokens"]):
            self._handout = Handout(obs["tokens"], self.max_response_length, self.pad)
        rows = self._handout.stale(obs, (greedy, scored))
        if len(rows):
            self._handout.fill(rows, self._write({name: values[rows] for name, values in obs.items()}, greedy, scored))
        return self._handout.hand_out(obs)

    def _write(self, obs: dict[str, Tensor], greedy: bool, scored: bool) -> Draft:
        """Drafts for rows, as long as the longest may still become."""
        tokens, lengths = obs["tokens"], obs["length"]
        left = min(self.max_response_length - int(obs["written"].sum(1).min()), tokens.shape[1] - int(lengths.min()))
        sampling = Sampling(self.sampling.temperature, self.sampling.top_p, greedy)
        self.engine.refresh()
        with self.scorer.options.autocast(tokens.device):
            decoded = self.scorer.within(self.engine.decode, tokens, lengths, max(left, 1), sampling)
        log_probs, values = self._score(tokens, lengths, decoded) if scored else torch.zeros(2, *decoded.tokens.shape)
        weights = torch.ones_like(log_probs)
        if decoded.log_probs is not None:
            weights = (log_probs - decoded.log_probs.to(log_probs)).exp().clamp(max=self.importance_cap)
        return Draft(decoded.tokens, decoded.lengths, log_probs, values, weights)

    def _score(self, tokens: Tensor, lengths: Tensor, decoded: Decoded) -> Tensor:
        """Log-probabilities and values [2, B, T] of a draft after right-padded texts."""
        steps = torch.arange(decoded.tokens.shape[1], device=tokens.device)
        drafted = steps < decoded.lengths[:, None]
        room = tokens.new_full(decoded.tokens.shape, self.pad)
        whole, written = torch.cat([tokens, room], 1), torch.zeros_like(torch.cat([tokens, room], 1), dtype=torch.bool)
        places = lengths[:, None] + steps
        whole.scatter_(1, places, torch.where(drafted, decoded.tokens, whole.gather(1, places)))
        written.scatter_(1, places, drafted)
        scores = self.scorer(whole, written)
        grid = torch.zeros(2, *drafted.shape, device=tokens.device)
        grid[:, drafted] = torch.stack([scores.log_probs, scores.values]).to(grid)
        return grid

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities and entropies [M] of what was written in sequences.

        Args:
            obs: "tokens" and "written" [B, L] of whole sequences, as `TokenRolloutBuffer.get` gives them.
            actions: the written tokens [M], row by row.

        Returns:
            The entropies are None unless the options ask for them; SB3 then puts the mean of -log π in their place.
        """
        scores: Scores = self.scorer(obs["tokens"], obs["written"], actions)  # type: ignore[index]
        distributed.balance(len(actions), *scores)
        return scores.values, scores.log_probs, scores.entropies

    def reference_log_probs(self, tokens: Tensor, written: Tensor) -> Tensor:
        """Log-probabilities [M] of the written tokens [B, L] under the reference."""
        reference = self._reference[0]
        if reference is None:
            with self.language.model.disable_adapter():  # type: ignore[operator]
                return self.scorer.log_probs(tokens, written)
        return reference.to(tokens.device).log_probs(tokens, written)

    @torch.no_grad()
    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values [N] of texts so far; zeros without computing any if the policy was told that nobody bootstraps."""
        if not self.bootstraps:
            return torch.zeros(len(obs["length"]), device=obs["length"].device)  # type: ignore[index]
        return self.scorer.values(obs["tokens"], obs["length"])  # type: ignore[index]

    def get_distribution(self, obs: PyTorchObs) -> CategoricalDistribution:
        """What the next tokens have as log-probabilities; without top-p."""
        last = (obs["length"] - 1).clamp(min=0)  # type: ignore[index]
        states = self.language.hidden(obs["tokens"])[torch.arange(len(last), device=last.device), last]  # type: ignore[index]
        logits = self.language.logits(states).float() / self.sampling.temperature
        return CategoricalDistribution(int(self.action_space.n)).proba_distribution(logits)  # type: ignore[attr-defined]

    def export(self, folder: str | Path) -> None:
        """Writes the model as a folder that `AutoModelForCausalLM` loads, adapters merged in."""
        merged(self.language.model).save_pretrained(folder)


def _check_vocabulary(language: LanguageModel, vocabulary: int, name: str) -> None:
    if language.vocabulary != vocabulary:
        raise ValueError(
            f"`{name}` must have the environment's vocabulary of {vocabulary} tokens, got {language.vocabulary}: "
            f"make the environment with vocabulary={language.vocabulary} if the tokenizer needs fewer"
        )


def _critic(critic: str | nn.Module | None, language: LanguageModel) -> ValueHead | Critic | None:
    if isinstance(critic, nn.Module):
        return Critic(copy.deepcopy(critic).requires_grad_(True))
    if critic not in ("head", None):
        raise ValueError(f"`critic` must be 'head', a reward model or None, got {critic!r}")
    return ValueHead(language.width) if critic else None


def _reference(
    given: nn.Module | None, language: LanguageModel, options: ScoringOptions, vocabulary: int
) -> TokenScorer | None:
    """The frozen reference; None where it is the policy with its adapters off."""
    if given is None and language.has_adapters:
        return None
    frozen = LanguageModel(copy.deepcopy(language.model if given is None else given))
    _check_vocabulary(frozen, vocabulary, "reference")
    return TokenScorer(frozen, None, options).requires_grad_(False).eval()
