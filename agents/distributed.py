"""Several processes as one, as `torchrun` starts them: sums over them, and weights of which each holds a share (FSDP2).

Without `torchrun` one process is a group by itself, and everything here is what it would be without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from prefgym.agents.language_model import with_adapters

Thing = TypeVar("Thing")


@contextmanager
def joined() -> Iterator[None]:
    """Within, the processes that torchrun started are a group; they leave it together at the end."""
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        # Gloo's threads may hold tensors of the last exchange, and abort a process that ends while they let go of them
        # (pytorch#179291): the last exchange is one without tensors. After an error, the others may wait elsewhere.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def size() -> int:
    """W, the processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def share(items: Sequence[Thing]) -> Sequence[Thing]:
    """This process's part of what is dealt out; all of it, if there are fewer than processes."""
    return items[rank() :: size()] if len(items) >= size() else items


def part(name: str, count: int) -> int:
    """A process's part of a number of the whole group's.

    Raises:
        ValueError: the processes do not divide it.
    """
    if count % size():
        raise ValueError(f"`{name}` is of all processes together: it must be a multiple of their {size()}, got {count}")
    return count // size()


# What everybody knows.


def total(values: Any) -> np.ndarray:
    """The sum over the processes, of a number or an array of the same shape everywhere."""
    summed = np.asarray(values, dtype=np.float64)
    if size() > 1:
        summed = summed.copy()
        dist.all_reduce(torch.from_numpy(summed.reshape(-1)))
    return summed


def moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and variance of the values [M] of all processes, each with an M of its own."""
    if size() == 1:
        return values.mean(), values.var()
    count, summed = total([len(values), values.sum()])
    return summed / count, float(total(((values - summed / count) ** 2).sum())) / count


def any_of(here: bool) -> bool:
    """Whether it holds for any process."""
    return bool(total(float(here)) > 0)


def of_first(make: Callable[[], Thing]) -> Thing:
    """What the first process makes, which the others wait for: they do not make it."""
    found: list[Any] = [make() if is_first() else None]
    if size() > 1:
        dist.broadcast_object_list(found, src=0)
    return found[0]


def all_of(thing: Thing) -> list[Thing]:
    """Everybody's thing, by rank."""
    found = [thing] * size()
    if size() > 1:
        dist.all_gather_object(found, thing)
    return found


# Weights.


def mesh(device: torch.device) -> DeviceMesh | None:
    """What weights are shared out over: all processes; None for one."""
    return init_device_mesh(device.type, (size(),)) if size() > 1 else None


def shard(module: nn.Module, over: DeviceMesh | None, *, bf16: bool = False, doors: Sequence[str] = ()) -> None:
    """Leaves each process a share of the weights: layer by layer, gathered when they are used, then all others.

    Args:
        module: through whose forward, and methods `doors`, all use of the weights must go.
        over: the processes; None leaves the module as it is.
        bf16: gather the layers as bfloat16. The shares stay as they are, and gradients are averaged in float32.
        doors: names of methods.
    """
    if over is None:
        return
    layers = [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
    halved = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in layers:
        fully_shard(layer, mesh=over, mp_policy=halved if bf16 else MixedPrecisionPolicy())
    fully_shard(module, mesh=over, reshard_after_forward=True)  # what is left over, too, is given up after use
    for door in doors:
        register_fsdp_forward_method(module, door)


def gather(module: nn.Module, whole: bool) -> None:
    """Has each process hold all of a sharded module's weights until further notice, or its share again."""
    for layer in module.modules():
        if isinstance(layer, FSDPModule):
            layer.set_reshard_after_forward(not whole, recurse=False)
            if whole:
                layer.unshard()
            else:
                layer.reshard()


def balance(count: int, *outputs: Tensor | None) -> None:
    """Has gradients averaged over the processes be those of a mean over all tokens, however many each process has.

    Args:
        count: M, tokens of this process.
        outputs: [M], of which the loss is a mean.
    """
    if size() == 1:
        return
    factor = count * size() / float(total(count))
    for output in outputs:
        if output is not None and output.requires_grad:
            output.register_hook(lambda gradient: gradient * factor)


WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def whole_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """All weights and the optimizer's state on the first process's CPU; everybody must ask, the others get nothing."""
    return get_state_dict(module, optimizer, options=WHOLE)


def set_whole_state(module: nn.Module, optimizer: torch.optim.Optimizer, state: tuple[Any, Any]) -> None:
    """Has each process take its share of what `whole_state` gave the first; everybody must have all of it."""
    weights, steps = state
    options = StateDictOptions(full_state_dict=True)
    set_state_dict(module, optimizer, model_state_dict=weights, optim_state_dict=steps, options=options)


def unsharded(model: Any) -> Any:
    """A sharded model of transformers, or of peft, as a plain one on the first process's CPU, None on the others.

    Everybody must ask. A model that is not sharded is given back as it is.
    """
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model
    weights = get_model_state_dict(model, options=WHOLE)
    if not is_first():
        return None
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind: Any = next(kind for kind in type(plain).__mro__ if not issubclass(kind, FSDPModule))
    with torch.device("meta"):
        twin = kind(plain.config)
        twin = twin if plain is model else with_adapters(twin, model.peft_config["default"])
    twin.load_state_dict(weights, assign=True)
    twin.tie_weights()
    return twin
