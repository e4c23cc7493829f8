"""A text reward model: a sequence classifier with one label, or M of them as heads on one trunk, made, kept and read.

In memory the M heads are one linear layer, so that the model's own forward gives all scores [B, M], under FSDP and
DeepSpeed too. On disk, head 0 is the published `AutoModelForSequenceClassification(num_labels=1)`, which anything
loads; the others lie beside it, in heads.safetensors. `config.json` has `reward_bias` and `reward_scale`, [M] each: a
reward is (score + bias) * scale.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from prefgym.agents import distributed
from prefgym.agents.fine_tuning import padded, padding_of, quiet
from prefgym.agents.language_model import load_causal_lm, merged

HEADS = "heads.safetensors"

MIN_SPREAD = 1e-6
"""Deviation of scores, below which it is rounding."""


def make_reward_model(
    source: str | Path | nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    members: int = 1,
    seed: int = 0,
    depth: float = 1.0,
) -> Any:
    """A reward model from a language model's trunk with fresh heads, or from a reward model.

    Fresh heads are drawn from N(0, 1 / (width + 1)), as by Stiennon et al. (2020).

    Args:
        source: a causal language model (it is copied) or a sequence classifier with one label (taken as it is), or a
            folder or hub id of either.
        tokenizer: its padding is the model's, where the model has none. Where it is EOS, the model cannot see whether
            a response ended: transformers reads the score at the last token that is not padding.
        members: M; heads that the source lacks are drawn.
        seed: of what is drawn; torch's own generator is left as it was.
        depth: share of the layers of a language model's trunk, in (0, 1], that are taken, the first ones. The last ones
            are busy with the next token: from few comparisons the first third of SmolLM2 learns more, in a third of the
            time (docs/experiments.md). A reward model is taken whole.

    Raises:
        ValueError: fewer than 1 member or than the source has; a source with several labels or without linear head; a
            depth out of bounds.
        OSError: there is no such model, or the hub cannot be reached.
    """
    if members < 1:
        raise ValueError(f"`members` must be at least 1, got {members}")
    if not 0 < depth <= 1:
        raise ValueError(f"`depth` must be a share in (0, 1], got {depth}")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = _as_classifier(source if isinstance(source, nn.Module) else _load(source), depth)
        widen(model, members)
    config = model.config.get_text_config()
    if config.pad_token_id is None:
        config.pad_token_id = padding_of(tokenizer)
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    return model


def members_of(model: Any) -> int:
    """M, the heads of a reward model."""
    return int(head_of(model)[1].out_features)


def head_of(model: Any) -> tuple[str, nn.Linear]:
    """The linear layer that gives the scores, with its name.

    Raises:
        ValueError: the model has none.
    """
    trunk = {id(module) for module in model.base_model.modules()}
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = [(name, m) for name, m in linear if id(m) not in trunk and m.out_features == model.config.num_labels]
    if not found:
        labels, kind = model.config.num_labels, type(model).__name__
        raise ValueError(f"`model` must have a linear head outside of its trunk for {labels} labels, got {kind}")
    return found[-1]


def train_last_layers(model: Any, count: int) -> None:
    """Has only the heads and the last `count` layers of the trunk take gradients."""
    layers = max((part for part in model.base_model.modules() if isinstance(part, nn.ModuleList)), key=len)
    model.base_model.requires_grad_(False)
    for layer in list(layers)[max(len(layers) - count, 0) :]:
        layer.requires_grad_(True)


def widen(model: Any, members: int) -> None:
    """Adds heads until there are `members`; the present ones stay."""
    head, before = head_of(model)[1], members_of(model)
    if members < before:
        raise ValueError(f"`members` must be at least the model's {before} heads, got {members}")
    fresh = torch.randn(members - before, head.in_features).to(head.weight) * (head.in_features + 1) ** -0.5
    bias = None if head.bias is None else torch.cat([head.bias.detach(), head.bias.new_zeros(members - before)])
    _replace_head(model, torch.cat([head.weight.detach(), fresh]), bias)
    _set_offsets(model, *(pad_with(model, name, members) for name in ("bias", "scale")))


def offsets(model: Any) -> Tensor:
    """Bias and scale [2, M] of a reward model: 0 and 1 unless `recentre` has set them."""
    return torch.tensor([pad_with(model, name, members_of(model)) for name in ("bias", "scale")])


def pad_with(model: Any, name: str, members: int) -> list[float]:
    """`reward_bias` or `reward_scale` of a model's configuration, for so many members."""
    neutral = {"bias": 0.0, "scale": 1.0}[name]
    known = list(getattr(model.config, f"reward_{name}", None) or [])[:members]
    return known + [neutral] * (members - len(known))


@torch.no_grad()
def member_scores(model: Any, rows: Sequence[Sequence[int]], batch_size: int = 64) -> Tensor:
    """Scores [M, B] of B texts' tokens, in float32; leaves the model in evaluation mode.

    Raises:
        ValueError: a text without tokens.
    """
    model.eval()
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))  # so that little is padding
    if order and not rows[order[0]]:
        raise ValueError(f"a text needs at least 1 token to be scored, text {order[0]} has 0")
    scores = torch.zeros(members_of(model), len(rows))
    device = next(model.parameters()).device
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        tokens, mask = padded([rows[n] for n in chosen], model.config.get_text_config().pad_token_id)
        logits = model(input_ids=tokens.to(device), attention_mask=mask.to(device)).logits
        scores[:, chosen] = logits.float().cpu().T
    return scores


def recentre(model: Any, rows: Sequence[Sequence[int]], *, scale: bool = False, batch_size: int = 64) -> None:
    """Gives every head mean 0 on a reference, the tokens of texts such as the initial policy's.

    Args:
        model: its configuration is changed, not its weights, so that differences stay what they were fitted to be.
        rows: the reference.
        scale: give the rewards the deviation 1 there, too; a head that says the same of all of it keeps the scale 1.
        batch_size: texts at a time.

    Raises:
        ValueError: an empty reference.
    """
    if not len(rows):
        raise ValueError("`rows` must be at least 1 text, got 0")
    scores = member_scores(model, rows, batch_size).double()
    spread = scores.std(1, correction=0)
    scales = torch.where(spread > MIN_SPREAD, 1 / spread, 1.0) if scale else torch.ones_like(spread)
    _set_offsets(model, (-scores.mean(1)).tolist(), scales.tolist())


def save_reward_model(model: Any, folder: str | Path, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Writes a folder that `AutoModelForSequenceClassification` loads, other heads beside it, and the tokenizer.

    Of several processes all must call it, and the first one writes.
    """
    model = distributed.unsharded(model)
    if not distributed.is_first():
        return
    folder, head = Path(folder), head_of(model)[1]
    extra = {"weight": head.weight, "bias": head.bias}
    rest = {name: value.detach()[1:].cpu().contiguous() for name, value in extra.items() if value is not None}
    with _published(model), quiet():
        model.save_pretrained(folder)
    (folder / HEADS).unlink(missing_ok=True)
    if len(rest["weight"]):
        save_file(rest, folder / HEADS)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def load_reward_model(source: str | Path) -> Any:
    """A reward model from a folder of `save_reward_model`, or any published one with one label; in float32.

    Raises:
        ValueError: it has several labels.
        OSError: there is no such model, or the hub cannot be reached.
    """
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(str(source), dtype=torch.float32)
    except OSError as error:
        hint = "without a network, give a folder made by `save_pretrained`"
        rule = f"`source` must be a local folder or a hub id that can be reached ({hint}), got {source}"
        raise OSError(rule) from error
    head = head_of(_as_classifier(model))[1]
    if (Path(source) / HEADS).is_file():
        rest = load_file(Path(source) / HEADS)
        bias = torch.cat([head.bias.detach(), rest["bias"].to(head.bias)]) if "bias" in rest else None
        _replace_head(model, torch.cat([head.weight.detach(), rest["weight"].to(head.weight)]), bias)
    return model.eval()


def published(model: Any) -> Any:
    """A copy with head 0 alone, such as a critic starts from."""
    with _published(model):
        return copy.deepcopy(model)


@contextmanager
def _published(model: Any) -> Iterator[None]:
    """For the while, the model has one label: head 0."""
    name, head = head_of(model)
    _replace_head(model, head.weight.detach()[:1], None if head.bias is None else head.bias.detach()[:1])
    try:
        yield
    finally:
        model.set_submodule(name, head)
        model.config.num_labels = model.num_labels = head.out_features


def _replace_head(model: Any, weight: Tensor, bias: Tensor | None) -> None:
    name, head = head_of(model)
    shape, kind = (weight.shape[1], weight.shape[0], bias is not None), {"device": weight.device, "dtype": weight.dtype}
    fresh = nn.utils.skip_init(nn.Linear, *shape, **kind)  # draws nothing: saving must not change what comes next
    fresh.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    model.set_submodule(name, fresh.train(head.training))
    model.config.num_labels = model.num_labels = weight.shape[0]


def _set_offsets(model: Any, bias: Sequence[float], scale: Sequence[float]) -> None:
    model.config.reward_bias, model.config.reward_scale = list(bias), list(scale)


def is_classifier(source: str | Path) -> bool:
    """Whether a folder or hub id has a sequence classifier; not so if there is none that can be read."""
    try:
        kinds = AutoConfig.from_pretrained(str(source)).architectures or []
    except OSError:
        return False
    return any(kind.endswith("ForSequenceClassification") for kind in kinds)


def _load(source: str | Path) -> nn.Module:
    return load_reward_model(source) if is_classifier(source) else load_causal_lm(source)


def _as_classifier(model: Any, depth: float = 1.0) -> Any:
    """The model, if it is a sequence classifier with one label or heads of ours; else its trunk with a fresh head."""
    model = merged(model)
    if type(model).__name__.endswith("ForSequenceClassification"):
        if model.config.num_labels != 1 and not hasattr(model.config, "reward_bias"):
            raise ValueError(f"`source` must be a classifier with 1 label, got {model.config.num_labels}")
        return model
    config = _shortened(model.config, depth)
    config.num_labels, config.architectures = 1, None
    made: Any = AutoModelForSequenceClassification.from_config(config).to(model.device, model.dtype)
    weights = model.base_model.state_dict()
    made.base_model.load_state_dict({name: weights[name] for name in made.base_model.state_dict()})
    head = head_of(made)[1]
    nn.init.normal_(head.weight, std=(head.in_features + 1) ** -0.5)
    return made


def _shortened(config: Any, depth: float) -> Any:
    """A copy of a trunk's configuration with this share of its layers, the first ones."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    layers = max(1, round(depth * text.num_hidden_layers))
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    text.num_hidden_layers = layers
    return config
