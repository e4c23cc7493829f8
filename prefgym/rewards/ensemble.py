"""The reward model for control: an ensemble of small networks, fitted to comparisons of segments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from prefgym.preferences import accuracy, preference_loss
from prefgym.registry import UnknownNameError
from prefgym.rewards.networks import Networks

VERSION = 2
"""Of the files that `RewardEnsemble.save` writes."""

LENGTH = 50
"""Steps in a segment on whose return, a sum, the preference model works; longer and shorter ones are scaled to it."""

LOSS_RATIO = (1.1, 1.5)
"""Where the validation loss should lie, as a multiple of the training loss (Christiano et al. 2017)."""

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class EnsembleConfig:
    """How the reward model is built and fitted.

    Attributes:
        members: networks in the ensemble, M.
        hidden: width of the two hidden layers.
        inputs: names of the numbers in an observation that the reward depends on; all of them if none is given. Fewer
            need fewer comparisons, if they are what the task is about.
        use_actions: whether the reward depends on the action, beside the observation reached.
        noise: share of answers taken to be by coin.
        weight_decay: of AdamW, at the start.
        adapt: let weight decay follow: more of it where the validation loss (out of bag) exceeds 1.5 times the training
            loss, less where it is under 1.1 times.
        warm: go on from the last fit's weights (else every fit starts anew).
        updates: gradient steps a fit.
        batch: comparisons a gradient step, of those that a member drew.
        crop: share of a segment that a gradient step sees, at a random place: 1 for all.
        stride: every how many steps of a segment a gradient step sees one.
        learning_rate: of AdamW; it falls to 0 within a fit.
        optimism: how many times the ensemble's standard deviation is added to the reward that the policy gets, so that
            it goes where the reward is uncertain (Liang et al. 2022); less than 0 is pessimism, against
            over-optimisation (Coste et al. 2023).
    """

    members: int = 3
    hidden: int = 64
    inputs: tuple[str, ...] = ()
    use_actions: bool = False
    noise: float = 0.1
    weight_decay: float = 1.0
    adapt: bool = False
    warm: bool = True
    updates: int = 150
    batch: int = 20
    crop: float = 1.0
    stride: int = 4
    learning_rate: float = 3e-3
    optimism: float = 1.0

    def __post_init__(self) -> None:
        for name in ("members", "hidden", "updates", "batch", "crop", "stride", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be more than 0, got {getattr(self, name)}")
        for name in ("noise", "crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")
        if not self.weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be at least 0, got {self.weight_decay}")
        if not np.isfinite(self.optimism):
            raise ValueError(f"`optimism` must be finite, got {self.optimism}")


@dataclass(frozen=True)
class FitReport:
    """What a fit came to, as means over members; losses in nats per comparison, nan where nothing was held out."""

    training_loss: float
    validation_loss: float
    training_accuracy: float
    validation_accuracy: float
    weight_decay: float
    comparisons: int


class RewardEnsemble:
    """M networks from an observation (and an action) to a reward, normalised on a stated reference.

    Each member is fitted to its own bootstrap sample of the comparisons. Those that it did not draw are its validation
    set. How often a member draws a comparison depends on the seed and the comparison's place alone, so that with a warm
    start too no member has ever seen what it is validated on.

    Args:
        observation_width: O.
        action_width: A; used if `config.use_actions`.
        config: see `EnsembleConfig`.
        seed: of the weights, the bootstrap and the batches.
        names: O names of the numbers in an observation, for `config.inputs`.

    Raises:
        UnknownNameError: an input that no observation has.
        ValueError: inputs, where observations have no names.
    """

    def __init__(
        self,
        observation_width: int,
        action_width: int,
        config: EnsembleConfig | None = None,
        seed: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        self.config, self.seed = config or EnsembleConfig(), seed
        self.columns = _columns(self.config.inputs, names)
        self.widths = (observation_width, action_width)
        self.weight_decay = self.config.weight_decay
        self.generator = torch.Generator().manual_seed(seed)
        inputs = len(self.columns) or observation_width
        inputs += action_width if self.config.use_actions else 0
        self.networks = Networks(self.config.members, inputs, self.config.hidden)
        self.networks.draw(self.generator)

    # Use.

    def __call__(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Rewards [...] for observations [..., O] and actions [..., A]: the members' mean, and the optimism."""
        rewards = self.predict(observations, actions)
        return rewards.mean(axis=0) + self.config.optimism * rewards.std(axis=0)

    def predict(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Normalised rewards of each member [M, ...] for observations [..., O] and actions [..., A]."""
        inputs = self._inputs(observations, actions)
        rewards = self.networks.normalised(inputs.reshape(-1, inputs.shape[-1]))
        return rewards.reshape(-1, *observations.shape[:-1]).numpy()

    @torch.no_grad()
    def returns(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Returns [M, C] of segments [C, T, O] and [C, T, A], unnormalised, on the scale that the fit compares."""
        return self._returns(self.networks.scaled(self._inputs(observations, actions))[None]).numpy()

    def normalise(self, observations: np.ndarray, actions: np.ndarray) -> None:
        """Give each member mean 0 and standard deviation 1 over a reference: observations [R, O], actions [R, A]."""
        self.networks.normalise(self._inputs(observations, actions))

    # Disk.

    def save(self, path: Path) -> None:
        """Write `path`.safetensors and `path`.json: all that the next fit and the rewards depend on."""
        tensors = {name: value.contiguous() for name, value in self.networks.state_dict().items()}
        data = save(tensors | {"generator": self.generator.get_state()})
        path.with_suffix(".safetensors").write_bytes(data)  # by itself, so that a full disk is an OSError
        facts = {"version": VERSION, "widths": self.widths, "weight_decay": self.weight_decay, "seed": self.seed}
        path.with_suffix(".json").write_text(json.dumps(facts | {"config": asdict(self.config)}, indent=2))

    def load(self, path: Path) -> None:
        """Read what `save` wrote, by a model of the same widths, members and hidden units.

        Raises:
            ValueError: it is of another version, or another shape, or of other inputs.
        """
        facts = json.loads(path.with_suffix(".json").read_text())
        if facts["version"] != VERSION:
            raise ValueError(f"{path} has the version {facts['version']}, and this prefgym reads {VERSION}")
        if tuple(facts["config"].get("inputs", ())) != self.config.inputs:
            raise ValueError(f"{path} holds a reward model of other inputs: {facts['config']}")
        tensors = load_file(path.with_suffix(".safetensors"))
        generator = tensors.pop("generator")
        try:
            self.networks.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{path} holds a reward model of another shape: {facts['config']}") from error
        self.generator.set_state(generator)
        self.weight_decay, self.seed = facts["weight_decay"], facts["seed"]

    # Fitting.

    def fit(self, first: Arrays, second: Arrays, targets: np.ndarray) -> FitReport:
        """Fit to B comparisons, the earlier ones of which are those of the last fit.

        Args:
            first: observations [B, T, O] and actions [B, T, A] of the first segments.
            second: the same of the second.
            targets: [B] P(first is better) that the teacher gave: 1, 0, or 0.5 for a tie.

        Raises:
            ValueError: without comparisons.
            FloatingPointError: if the loss is not finite.
        """
        if len(targets) < 1:
            raise ValueError("`fit` needs at least 1 comparison, got 0")
        pairs = torch.stack([self._inputs(*first), self._inputs(*second)], dim=1)  # [B, 2, T, I]
        goal = torch.from_numpy(np.asarray(targets, dtype=np.float32))
        if not self.config.warm:
            self.networks.draw(self.generator)
        self.networks.scale_inputs(pairs.reshape(-1, pairs.shape[-1]))
        drawn = self._bootstrap(len(goal))
        pairs = self.networks.scaled(pairs)
        self._descend(pairs, goal, drawn)
        report = self._report(pairs, goal, drawn)
        if self.config.adapt:
            self._adapt(report.validation_loss / report.training_loss)
        return report

    def _bootstrap(self, size: int) -> Tensor:
        """How often each member drew each comparison [M, B]: Poisson, as in online bagging (Oza & Russell 2001)."""
        drawn = np.random.default_rng(self.seed).poisson(1.0, (size, self.config.members))
        return torch.from_numpy(drawn.T.astype(np.float32))

    def _descend(self, pairs: Tensor, goal: Tensor, drawn: Tensor) -> None:
        config, parameters = self.config, self.networks.parameters()
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=self.weight_decay, fused=True)
        seen = (drawn.sum(1, keepdim=True) > 0).float()  # of few comparisons a member may have drawn none
        order = torch.multinomial(drawn + (1 - seen), config.updates * config.batch, True, generator=self.generator)
        for update, batch in enumerate(order.split(config.batch, dim=1)):  # [M, batch], each member's own
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - update / config.updates)
            returns = self._returns(self._glimpse(pairs[batch]))
            loss = (self._losses(returns, goal[batch]) * seen).mean(1).sum()
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the reward model's loss must be finite, got {loss.item()}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _glimpse(self, pairs: Tensor) -> Tensor:
        """A crop of the segments [..., T, I] at a random place, and of that every `stride`-th step."""
        length = pairs.shape[-2]
        crop = max(1, round(self.config.crop * length))
        start = int(torch.randint(length - crop + 1, (), generator=self.generator))
        phase = int(torch.randint(min(self.config.stride, crop), (), generator=self.generator))
        return pairs[..., start + phase : start + crop : self.config.stride, :]

    def _inputs(self, observations: np.ndarray, actions: np.ndarray) -> Tensor:
        seen = observations[..., self.columns] if self.columns else observations
        parts = (seen, actions) if self.config.use_actions else (seen,)
        return torch.from_numpy(np.concatenate(parts, axis=-1).astype(np.float32, copy=False))

    def _returns(self, segments: Tensor) -> Tensor:
        """Raw returns [M, ...], as if of `LENGTH` steps, of scaled segments [M, ..., T, I], or [1, ..., T, I]."""
        rewards = self.networks.of_scaled(segments.flatten(1, -2))
        return LENGTH * rewards.reshape(-1, *segments.shape[1:-1]).mean(-1)

    def _losses(self, returns: Tensor, goal: Tensor) -> Tensor:
        """Losses [M, B] of returns [M, B, 2]."""
        return preference_loss(returns[..., 0], returns[..., 1], goal, noise=self.config.noise)

    @torch.no_grad()
    def _report(self, pairs: Tensor, goal: Tensor, drawn: Tensor) -> FitReport:
        returns, inside = self._returns(pairs[None, :, :, :: self.config.stride]), drawn > 0
        losses = self._losses(returns, goal)
        right = [accuracy(returns[..., 0], returns[..., 1], goal, mask.float()) for mask in (inside, ~inside)]
        return FitReport(
            training_loss=float(losses[inside].mean()),
            validation_loss=float(losses[~inside].mean()),
            training_accuracy=float(right[0].nanmean()),
            validation_accuracy=float(right[1].nanmean()),
            weight_decay=self.weight_decay,
            comparisons=len(goal),
        )

    def _adapt(self, ratio: float) -> None:
        if ratio > LOSS_RATIO[1]:
            self.weight_decay = min(self.weight_decay * 1.5, 30.0)
        elif ratio < LOSS_RATIO[0]:
            self.weight_decay = max(self.weight_decay / 1.5, 1e-3)


def _columns(inputs: Sequence[str], names: Sequence[str]) -> list[int]:
    """The numbers of an observation that have these names; none stand for all."""
    if inputs and not names:
        raise ValueError(f"`inputs` must be empty where observations have no names, got {list(inputs)}")
    for name in inputs:
        if name not in names:
            raise UnknownNameError("input", name, dict.fromkeys(names))
    return [names.index(name) for name in inputs]
