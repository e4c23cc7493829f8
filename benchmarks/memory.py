"""GPU memory of PPO on text, by arithmetic: what each of W processes holds when weights are shared out (FSDP2).

    python benchmarks/memory.py                         # 1.3B, 6B and 175B on 1 to 512 GPUs
    python benchmarks/memory.py --rows 16 --tokens 1024

Parameters are counted on the configurations themselves (GPT-2's architecture with GPT-3's sizes, without weights). What
is held is what `make_text_ppo` makes with `bf16` and `gradient_checkpointing`: weights, gradients and AdamW's two
moments in float32, in shares; while a rollout is written, the layers of policy and critic whole in bfloat16 (on one GPU
the copies that autocast keeps), and the cache of keys and values; in training, a float32 state a token and layer, two
gathered layers, and the logits of a chunk of tokens with their gradient. The driver, what NCCL keeps and fragments are
not counted: leave 10 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro
from summary import markdown
from transformers import GPT2Config, GPT2LMHeadModel

GIB = 2**30
SIZES = {"1.3B": (24, 2048, 16), "6B": (32, 4096, 32), "175B": (96, 12288, 96)}
"""Layers, width and heads, of GPT-3's table 2.1."""

GPUS = {"H100 80 GB": 80e9 / GIB, "H200 141 GB": 141e9 / GIB}
FULL, HALF = 4, 2
"""Bytes of a number, in float32 and bfloat16."""


@dataclass(frozen=True)
class MemoryConfig:
    """GPU memory of PPO on text, by arithmetic.

    Attributes:
        rows: responses written at once by a GPU: `rows` of `prefgym ppo`, divided by the GPUs, or `rollout_batch_size`.
        micro_batch: responses of a GPU whose activations exist at a time (`micro_batch_size`).
        tokens: of prompt and response.
        chunk: tokens whose logits exist at a time (`chunk_tokens`).
        gpus: numbers of processes.
        lora_rank: of the rows of the table with adapters.
    """

    rows: int = 16
    micro_batch: int = 4
    tokens: int = 512
    chunk: int = 1024
    gpus: tuple[int, ...] = (1, 8, 64, 512)
    lora_rank: int = 16


@dataclass(frozen=True)
class Model:
    """Parameters of a language model.

    Attributes:
        layers: of the trunk.
        width: of the hidden states.
        vocabulary: columns of the logits.
        in_layers: parameters in the layers, which are gathered as bfloat16.
        outside: all others, which are gathered as they are.
        adapters: parameters of LoRA at rank 1, on every linear layer of the trunk.
    """

    layers: int
    width: int
    vocabulary: int
    in_layers: int
    outside: int
    adapters: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.in_layers + self.outside


def sized(layers: int, width: int, heads: int) -> GPT2LMHeadModel:
    """A model whose weights take no memory."""
    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width, n_head=heads, n_positions=2048))


def counted(model: GPT2LMHeadModel) -> Model:
    """Counts a model's parameters."""
    blocks = model.transformer.h
    inside = sum(weights.numel() for weights in blocks.parameters())
    whole = sum(weights.numel() for weights in model.parameters())
    adapters = sum(sum(weights.shape) for weights in blocks.parameters() if weights.dim() == 2)
    return Model(len(blocks), model.config.n_embd, model.config.vocab_size, inside, whole - inside, adapters)


def held(model: Model, gpus: int, config: MemoryConfig, *, lora: bool) -> dict[str, float]:
    """GiB of a GPU, by what they are for.

    In full, policy and critic are trained and the reference is a third model; with adapters, the critic is a head and
    the reference the same model without them.
    """
    adapters = config.lora_rank * model.adapters if lora else 0
    trained, models = (adapters, 1) if lora else (2 * model.parameters, 3)
    weights = models * model.parameters + adapters
    writers = 1 if lora else 2
    cell = model.layers * model.width * config.tokens
    layer = model.in_layers // model.layers
    bytes_held = {
        "shares": (FULL * weights + 3 * FULL * trained) / gpus,
        "whole": writers * (HALF * model.in_layers + (FULL * model.outside if gpus > 1 else 0)),
        "cache": 2 * HALF * cell * config.rows,
        "activations": FULL * (cell * config.micro_batch + 2 * layer + 2 * config.chunk * model.vocabulary),
    }
    found = {name: count / GIB for name, count in bytes_held.items()}
    # Writing and training take turns.
    peak = found["shares"] + max(found["whole"] + found["cache"], found["activations"])
    return found | {"peak": peak}


def fitting(peak: float) -> str:
    """Which GPU is large enough, a tenth left free."""
    return next((name for name, size in GPUS.items() if peak < 0.9 * size), "none")


def table(config: MemoryConfig) -> str:
    """GiB per GPU, as Markdown."""
    parts = ["shares", "whole while writing", "cache", "activations", "peak", "fits"]
    rows = []
    for name, sizes in SIZES.items():
        model = counted(sized(*sizes))
        for lora in (False, True):
            for gpus in config.gpus:
                found = held(model, gpus, config, lora=lora)
                said = [f"{gib:,.1f}" for gib in found.values()]
                trained = f"LoRA {config.lora_rank}" if lora else "all"
                rows.append([name, trained, str(gpus), *said, fitting(found["peak"])])
    return markdown(["model", "trained", "GPUs", *parts], rows)


def main() -> None:
    """Prints the table."""
    config = tyro.cli(MemoryConfig)
    print(table(config))
    print(
        f"\nGiB per GPU: {config.rows} responses of {config.tokens} tokens written at once by each, "
        f"{config.micro_batch} of them in a forward and backward."
    )


if __name__ == "__main__":
    main()
