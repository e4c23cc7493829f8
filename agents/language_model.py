"""A causal language model split into its trunk and its head, so that logits are only made where they are wanted."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What a configuration calls the things that some models do to their logits after the head."""


def load_causal_lm(source: str | Path | nn.Module) -> nn.Module:
    """A model as it is, or `AutoModelForCausalLM` from a folder or hub id, in float32.

    Most published weights are bfloat16, of whose 8 bits a step of AdamW at a usual learning rate moves none.

    Raises:
        OSError: there is no such model, or the hub cannot be reached.
        ValueError: it is no causal language model.
    """
    if isinstance(source, nn.Module):
        return source
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32)
    except OSError as error:
        hint = "without a network, give a folder made by `save_pretrained`"
        raise OSError(
            f"`model` must be a local folder or a hub id that can be reached ({hint}), got {source}"
        ) from error
    except ValueError as error:
        first = str(error).split("\n")[0]  # what follows names all the kinds that there are
        raise ValueError(f"`model` must be a causal language model, got {source}: {first}") from error


class LanguageModel(nn.Module):
    """Any `AutoModelForCausalLM`, or one with LoRA adapters, as hidden states and logits.

    Dropout is switched off: with it, the first minibatch's new log-probabilities would not be the old ones.

    Args:
        model: the model, a folder or a hub id.

    Raises:
        ValueError: what comes at a position depends on later tokens, or the logits are not head(trunk(tokens)).
    """

    def __init__(self, model: str | Path | nn.Module) -> None:
        super().__init__()
        self.model = load_causal_lm(model)
        _silence_dropout(self.model)
        self._check()

    @property
    def plain(self) -> Any:
        """The transformers model, inside of the adapters if there are any; they stay in effect."""
        return self.model.get_base_model() if self.has_adapters else self.model  # type: ignore[operator]

    @property
    def has_adapters(self) -> bool:
        """Whether the model is a peft model."""
        return hasattr(self.model, "get_base_model")

    @property
    def vocabulary(self) -> int:
        """V, the columns of the logits."""
        return int(self.plain.config.get_text_config().vocab_size)

    @property
    def width(self) -> int:
        """D, of the hidden states."""
        return int(self.plain.get_output_embeddings().weight.shape[1])

    def hidden(self, tokens: Tensor, **options: Any) -> Tensor:
        """The last hidden states [B, L, D] of right-padded tokens [B, L]; later tokens, so padding, change nothing."""
        return self.plain.base_model(input_ids=tokens, use_cache=False, **options).last_hidden_state

    def logits(self, states: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        plain = self.plain
        logits = plain.get_output_embeddings()(states)
        cap, scale, divisor = (getattr(plain.config.get_text_config(), name, None) for name in SCALED_HEADS)
        logits = logits if not divisor else logits / divisor
        logits = logits if not scale else logits * scale
        return logits if not cap else cap * torch.tanh(logits / cap)

    @torch.no_grad()
    def _check(self) -> None:
        """Whether the model is causal and its logits come from its head alone."""
        name = type(self.plain).__name__
        if self.plain.get_output_embeddings() is None:
            raise ValueError(f"`model` must be a causal language model, got {name}")
        tokens, whole = check_causal(self.plain)
        with _evaluated(self.model):
            logits = self.logits(self.hidden(tokens))
        if not _close(logits, whole):
            raise ValueError(f"`model` must have the logits head(trunk(tokens)): {name} does more to them")


@torch.no_grad()
def check_causal(model: Any) -> tuple[Tensor, Tensor]:
    """Two short texts tell whether a model of transformers is causal; its mode and its dropout stay as they are.

    Returns:
        Their tokens [2, 3] and logits [2, 3, V].

    Raises:
        ValueError: it is not.
    """
    name, config = type(model).__name__, model.config
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"`model` must be a causal language model, got {name}")
    tokens = torch.tensor([[1, 2, 3], [1, 2, 4]], device=model.device) % config.get_text_config().vocab_size
    with _evaluated(model):
        logits = model(input_ids=tokens, use_cache=False).logits
    if not _close(logits[0, :2], logits[1, :2]):
        raise ValueError(f"`model` must be causal: a later token changes an earlier state of {name}")
    return tokens, logits


def with_lora(model: Any, rank: int, alpha: int) -> Any:
    """The model with trainable LoRA adapters on every linear layer of the trunk; all else is frozen.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("LoRA needs peft: `pip install prefgym[lora]`, or set `lora_rank` to 0") from error
    transposed = any(type(module).__name__ == "Conv1D" for module in model.modules())  # GPT-2's linear layers
    adapters = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=transposed
    )
    return with_adapters(model, adapters)


def with_adapters(model: Any, adapters: Any) -> Any:
    """`peft.get_peft_model`, without a warning that nobody here can heed."""
    from peft import get_peft_model

    with warnings.catch_warnings():  # peft 0.21 asks by a name that transformers 5.23 gave up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, adapters)


def merged(model: Any) -> Any:
    """The plain model: a copy with LoRA's adapters in its weights, or the model itself if it has none.

    Args:
        model: one of peft's, or one that peft has put adapters into.
    """
    if not any(hasattr(module, "get_base_layer") for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    if hasattr(plain, "merge_and_unload"):
        return plain.merge_and_unload()
    for name, module in list(plain.named_modules()):
        if hasattr(module, "get_base_layer"):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
    return plain


def checkpoint_activations(model: Any) -> None:
    """Has every layer keep its input only in training, and compute the rest anew in the backward."""
    # transformers 5.23 has the first name, those before it the second.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _silence_dropout(model: nn.Module) -> None:
    """Sets every dropout rate in the modules to 0, those of attention and of adapters included."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in [name for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]:
            setattr(module, name, 0.0)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """For the while, the model is in evaluation mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _close(left: Tensor, right: Tensor) -> bool:
    """Whether no difference is more than rounding can make of it, a share of the greatest entry."""
    rounding = 0.03 if torch.finfo(left.dtype).bits < 32 else 1e-4
    return bool((left - right).abs().max() <= rounding * right.abs().max())


def left_padded(tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turns right-padded rows into left-padded ones, as decoding needs them.

    Args:
        tokens: [B, L], valid up to `lengths`.
        lengths: [B], at least 1.

    Returns:
        Tokens [B, P] with the longest row's P, what comes before a row being its first token; mask [B, P], 1 where
        valid; position ids [B, P], from 0 at a row's first token.
    """
    longest = int(lengths.max())
    positions = torch.arange(longest, device=tokens.device) - (longest - lengths)[:, None]
    kept = positions.clamp(min=0)
    return tokens.gather(1, kept), (positions >= 0).long(), kept
