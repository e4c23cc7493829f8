"""M small networks of one shape, evaluated as one batched product."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Networks(nn.Module):
    """M networks with two hidden layers, from the same inputs to rewards between -1 and 1.

    Their weights lie in one tensor per layer: a step of all members is three batched products, not 3 M small ones.

    Args:
        members: M.
        inputs: numbers per input, I.
        hidden: width of both hidden layers.
    """

    input_mean: Tensor
    input_std: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, members: int, inputs: int, hidden: int) -> None:
        super().__init__()
        self.members = members
        self.register_buffer("input_mean", torch.zeros(inputs))
        self.register_buffer("input_std", torch.ones(inputs))
        self.register_buffer("shift", torch.zeros(members, 1))
        self.register_buffer("scale", torch.ones(members, 1))
        shapes = list(pairwise([inputs, hidden, hidden, 1]))
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(members, *shape)) for shape in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, shape[1])) for shape in shapes)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights anew."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=generator)
            nn.init.zeros_(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Raw rewards [M, R] in (-1, 1) of inputs [R, I], the same for all members, or [M, R, I]."""
        return self.of_scaled(self.scaled(inputs))

    def scaled(self, inputs: Tensor) -> Tensor:
        """Inputs [..., I] with the mean and deviation that are expected taken out."""
        return (inputs - self.input_mean) / self.input_std

    def of_scaled(self, inputs: Tensor) -> Tensor:
        """The same as `forward` of inputs that are scaled already, so that a fit need not do it at each step."""
        hidden = inputs.expand(self.members, -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.baddbmm(bias, hidden, weight).relu_()
        return torch.tanh(torch.baddbmm(self.biases[-1], hidden, self.weights[-1]))[..., 0]

    def scale_inputs(self, inputs: Tensor) -> None:
        """Take the mean and the deviation of inputs [R, I] as those to be expected."""
        self.input_mean[:], self.input_std[:] = inputs.mean(0), inputs.std(0) + 1e-3

    @torch.no_grad()
    def normalise(self, inputs: Tensor) -> None:
        """Give each member's `normalised` rewards mean 0 and deviation 1 over inputs [R, I]."""
        rewards = self(inputs)
        self.shift[:], self.scale[:] = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True) + 1e-6

    @torch.no_grad()
    def normalised(self, inputs: Tensor) -> Tensor:
        """Normalised rewards [M, R] of R inputs [R, I]."""
        return (self(inputs) - self.shift) / self.scale
