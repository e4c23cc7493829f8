"""The reward model for control: an ensemble of small networks, evaluated and fitted as one batched product."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from prefgym.preferences import accuracy, preference_loss

VERSION = 1


@dataclass(frozen=True)
class EnsembleConfig:
    """How the reward model is built and fitted.

    Attributes:
        members: networks in the ensemble, M.
        hidden: width of the two hidden layers.
        use_actions: whether the reward depends on the action, beside the observation reached.
        noise: share of answers taken to be by coin (Christiano et al. 2017: 0.1).
        weight_decay: of AdamW at the start; adapted after each fit so that the validation loss (out of bag) stays
            within 1.1 to 1.5 of the training loss, unless `adapt` is off.
        adapt: whether weight decay follows the validation loss.
        warm: go on from the last fit's weights (else every fit starts anew).
        updates: gradient steps a fit.
        batch: comparisons a gradient step.
        crop: share of the segment's steps that a gradient step sees, at random places: 1 for all.
        stride: every how many steps of a segment a gradient step sees one.
        learning_rate: of AdamW.
        optimism: times the ensemble's standard deviation added to the reward given to the policy.
    """

    members: int = 3
    hidden: int = 64
    use_actions: bool = False
    noise: float = 0.1
    weight_decay: float = 0.01
    adapt: bool = False
    warm: bool = False
    updates: int = 100
    batch: int = 64
    crop: float = 1.0
    stride: int = 2
    learning_rate: float = 3e-3
    optimism: float = 0.0

    def __post_init__(self) -> None:
        for name in ("members", "hidden", "updates", "batch", "crop", "stride", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be more than 0, got {getattr(self, name)}")
        for name in ("noise", "crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")
        if not self.weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be at least 0, got {self.weight_decay}")


@dataclass(frozen=True)
class FitReport:
    """What a fit came to; losses in nats per comparison."""

    training_loss: float
    validation_loss: float
    training_accuracy: float
    validation_accuracy: float
    weight_decay: float
    comparisons: int


class RewardEnsemble(nn.Module):
    """M networks from an observation (and an action) to a bounded reward, normalised on a stated reference.

    Each member is fitted to its own bootstrap sample of the comparisons; those that it did not draw are its validation
    set, so that no comparison is on both sides.

    Args:
        observation_width: O.
        action_width: A; used if `config.use_actions`.
        config: see `EnsembleConfig`.
        seed: of the initial weights, the bootstrap and the batches.
    """

    def __init__(
        self, observation_width: int, action_width: int, config: EnsembleConfig | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config or EnsembleConfig()
        self.widths = (observation_width, action_width)
        self.generator = torch.Generator().manual_seed(seed)
        self.weight_decay = self.config.weight_decay
        inputs = observation_width + (action_width if self.config.use_actions else 0)
        self.register_buffer("input_mean", torch.zeros(inputs))
        self.register_buffer("input_std", torch.ones(inputs))
        self.register_buffer("shift", torch.zeros(self.config.members, 1))
        self.register_buffer("scale", torch.ones(self.config.members, 1))
        sizes = [inputs, self.config.hidden, self.config.hidden, 1]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(self.config.members, rows, columns))
            for rows, columns in zip(sizes, sizes[1:], strict=False)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(self.config.members, 1, columns)) for columns in sizes[1:]
        )
        self._start_anew()

    def _start_anew(self) -> None:
        for weight, bias in zip(self.weights, self.biases, strict=True):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=self.generator)
            nn.init.zeros_(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Raw rewards [M, R] in (-1, 1) of R inputs [R, I]."""
        hidden = ((inputs - self.input_mean) / self.input_std).expand(self.config.members, -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.relu(torch.baddbmm(bias, hidden, weight))
        return torch.tanh(torch.baddbmm(self.biases[-1], hidden, self.weights[-1]))[..., 0]

    # Use.

    @torch.no_grad()
    def predict(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Normalised rewards of each member [M, ...] for observations [..., O] and actions [..., A]."""
        inputs = self._inputs(observations, actions)
        rewards = (self(inputs.reshape(-1, inputs.shape[-1])) - self.shift) / self.scale
        return rewards.reshape(-1, *observations.shape[:-1]).numpy()

    @torch.no_grad()
    def returns(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Returns [M, C] of segments [C, T, O] and [C, T, A], unnormalised, on the scale that the fit compares."""
        return self._returns(self._inputs(observations, actions)[:, None])[..., 0].numpy()

    def __call__(self, *args: Any) -> Any:
        """Rewards [N] for observations [N, O] and actions [N, A]; with one tensor, as `forward`."""
        if len(args) == 1:
            return super().__call__(*args)
        rewards = self.predict(*args)
        return rewards.mean(axis=0) + self.config.optimism * rewards.std(axis=0)

    def _inputs(self, observations: np.ndarray, actions: np.ndarray) -> Tensor:
        parts = (observations, actions) if self.config.use_actions else (observations,)
        return torch.from_numpy(np.concatenate(parts, axis=-1).astype(np.float32, copy=False))

    @torch.no_grad()
    def normalise(self, observations: np.ndarray, actions: np.ndarray) -> None:
        """Give each member mean 0 and standard deviation 1 over a reference: observations [R, O], actions [R, A]."""
        rewards = self(self._inputs(observations, actions))
        self.shift[:], self.scale[:] = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True) + 1e-6

    # Disk.

    def save(self, path: Path) -> None:
        """Write `path`.safetensors and `path`.json: all that the next fit and the rewards depend on."""
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        data = save(tensors | {"generator": self.generator.get_state()})
        path.with_suffix(".safetensors").write_bytes(data)  # by itself, so that a full disk is an OSError
        facts = {"version": VERSION, "widths": self.widths, "weight_decay": self.weight_decay}
        path.with_suffix(".json").write_text(json.dumps(facts | {"config": asdict(self.config)}, indent=2))

    def load(self, path: Path) -> None:
        """Read what `save` wrote, by a model of the same widths, members and hidden units.

        Raises:
            ValueError: it is of another version, or another shape.
        """
        facts = json.loads(path.with_suffix(".json").read_text())
        if facts["version"] != VERSION:
            raise ValueError(f"{path} has the version {facts['version']}, and this prefgym reads {VERSION}")
        tensors = load_file(path.with_suffix(".safetensors"))
        self.generator.set_state(tensors.pop("generator"))
        try:
            self.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{path} holds a reward model of another shape: {facts['config']}") from error
        self.weight_decay = facts["weight_decay"]

    # Fitting.

    def fit(self, first: tuple, second: tuple, targets: np.ndarray) -> FitReport:
        """Fit to B comparisons.

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
            self._start_anew()
        self._scale_inputs(pairs)
        counts = self._bootstrap(len(goal))
        self._descend(pairs, goal, counts)
        return self._report(pairs, goal, counts)

    def _scale_inputs(self, pairs: Tensor) -> None:
        flat = pairs.reshape(-1, pairs.shape[-1])
        self.input_mean[:], self.input_std[:] = flat.mean(0), flat.std(0) + 1e-3

    def _bootstrap(self, size: int) -> Tensor:
        """How often each member drew each comparison [M, B]."""
        members = self.config.members
        drawn = torch.randint(size, (members, size), generator=self.generator)
        return torch.zeros(members, size).scatter_add_(1, drawn, torch.ones(members, size))

    def _descend(self, pairs: Tensor, goal: Tensor, counts: Tensor) -> None:
        config = self.config
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        size = min(config.batch, len(goal))
        order = torch.empty(0, dtype=torch.long)
        for update in range(config.updates):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - update / config.updates)
            if len(order) < size:
                order = torch.cat([order, torch.randperm(len(goal), generator=self.generator)])
            batch, order = order[:size], order[size:]
            loss = (self._losses(self._view(pairs[batch]), goal[batch]) * counts[:, batch]).mean(1).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the reward model's loss must be finite, got {loss.item()}")

    def _view(self, pairs: Tensor) -> Tensor:
        """A crop of the segments at one random place, and of that every `stride`-th step."""
        length = pairs.shape[2]
        crop = max(1, round(self.config.crop * length))
        start = int(torch.randint(length - crop + 1, (), generator=self.generator))
        phase = int(torch.randint(self.config.stride, (), generator=self.generator))
        return pairs[:, :, start + phase : start + crop : self.config.stride]

    def _returns(self, pairs: Tensor) -> Tensor:
        """Raw returns [M, B, 2] of segments [B, 2, T, I], as if every segment had 50 steps."""
        rewards = self(pairs.reshape(-1, pairs.shape[-1]))
        return 50 * rewards.reshape(self.config.members, *pairs.shape[:3]).mean(-1)

    def _losses(self, pairs: Tensor, goal: Tensor) -> Tensor:
        returns = self._returns(pairs)
        return preference_loss(returns[..., 0], returns[..., 1], goal, noise=self.config.noise)

    @torch.no_grad()
    def _report(self, pairs: Tensor, goal: Tensor, counts: Tensor) -> FitReport:
        returns = self._returns(pairs[:, :, :: self.config.stride])
        losses = preference_loss(returns[..., 0], returns[..., 1], goal, noise=self.config.noise)
        right = ((returns[..., 0] > returns[..., 1]) == (goal > 0.5)) & (goal != 0.5)
        inside, outside = counts > 0, counts == 0
        training, validation = _mean(losses, inside), _mean(losses, outside)
        report = FitReport(
            training, validation, _mean(right, inside & (goal != 0.5)), _mean(right, outside & (goal != 0.5)),
            self.weight_decay, len(goal),
        )
        if self.config.adapt:
            self._adapt(validation / training)
        return report

    def _adapt(self, ratio: float) -> None:
        if ratio > 1.5:
            self.weight_decay = min(self.weight_decay * 1.5, 10.0)
        elif ratio < 1.1:
            self.weight_decay = max(self.weight_decay / 1.5, 1e-4)


def _mean(values: Tensor, mask: Tensor) -> float:
    return float(values[mask].float().mean()) if mask.any() else float("nan")
