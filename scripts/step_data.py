"""What the single steps learn from: files of demonstrations and rankings, and the answers in a store."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from prefgym.agents.text_policy import TextPolicy
from prefgym.scripts.label import find
from prefgym.store import Store
from prefgym.text import Demonstration, Ranking
from prefgym.text_formats import TextFormatError, rankings_in, read_demonstrations, read_rankings

Item = TypeVar("Item")

SQLITE = b"SQLite format 3\0"
"""How a store's file begins."""


class StepData:
    """Reads data for a model: prompts are put by its chat template, if it has one.

    Conversations (TRL's lists of messages) are written by the template as a whole.

    Args:
        policy: the model's tokenizer, and whether it chats.

    Attributes:
        asked: what people wrote, by prompts as they are put; those of conversations are not among them.
    """

    def __init__(self, policy: TextPolicy) -> None:
        self.policy = policy
        self.asked: dict[str, str] = {}
        self._written: set[str] = set()  # prompts of conversations, which the template has been put around

    def demonstrations(self, path: Path) -> list[Demonstration]:
        """Demonstrations of a .jsonl, .csv or .parquet file with `prompt` and `completion` (or `response`).

        Raises:
            TextFormatError: it cannot be read; the message names the line.
        """
        found = _read(path, read_demonstrations, self._chat)
        return [Demonstration(self._put(asked), self._said(asked, said)) for asked, said in found]

    def rankings(self, source: str) -> list[Ranking]:
        """Rankings of a file, or the answers about texts in a store.

        Args:
            source: a .jsonl, .csv or .parquet file with TRL's `prompt`, `chosen` and `rejected`, or (not .csv) with
                `prompt`, `responses` and `ranks`; or a run's folder, a store's file or a database's URL.

        Raises:
            TextFormatError: a file that cannot be read; the message names the line.
            StoreError, RunError: a store that is none.
            ValueError: a store without answers about texts.
        """
        found = _answers(source) if _is_store(source) else _read(Path(source), read_rankings, self._chat)
        return [
            Ranking(self._put(one.prompt), tuple(self._said(one.prompt, said) for said in one.responses), one.ranks)
            for one in found
        ]

    def _put(self, prompt: str) -> str:
        if prompt in self._written:
            return prompt
        put = self.policy.put(prompt)
        self.asked[put] = prompt
        return put

    def _said(self, prompt: str, response: str) -> str:
        """A response without its end, which is put behind it again as a token."""
        end = self.policy.tokenizer.eos_token
        return response.rstrip().removesuffix(end) if prompt in self._written else response

    def _chat(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
        if not self.policy.chat:
            raise ValueError("it has messages, and the model's tokenizer has no chat template: give texts")
        options = {"tokenize": False, "add_generation_prompt": add_generation_prompt}
        text = str(self.policy.tokenizer.apply_chat_template(list(messages), **options))
        if add_generation_prompt:
            self._written.add(text)
        return text


def _is_store(source: str) -> bool:
    path = Path(source)
    if "://" in source or path.is_dir():
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _answers(source: str) -> list[Ranking]:
    with Store(find(source)[0], create=False) as store:
        found = rankings_in(store)
    if not found:
        raise ValueError(f"{source} has no answers about texts: people give them at prefgym label {source}")
    return found


def _read(path: Path, read: Callable[..., list[Item]], chat: Callable[..., str]) -> list[Item]:
    """All items of a file, each error with its file and line; there must be some."""
    tables = {".csv": _csv_rows, ".parquet": _parquet_rows}
    rows = tables.get(path.suffix.lower())
    items = read(path, chat) if rows is None else [item for place in rows(path) for item in _items(*place, read, chat)]
    if not items:
        raise ValueError(f"{path} has nothing to learn from: it is empty")
    return items


def _items(place: str, row: dict[str, Any], read: Callable[..., list[Item]], chat: Callable[..., str]) -> list[Item]:
    try:
        return read([row], chat)
    except TextFormatError as error:
        raise TextFormatError(place, error.args[1]) from error


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TextFormatError(str(path), f"cannot be read ({error})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        place = f"{path}, line {reader.line_num + 1}"  # where the record begins: a cell may have line breaks
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TextFormatError(place, f"is damaged: {error}") from error
        if cells is None:
            return
        if header and cells and len(cells) != len(header):
            raise TextFormatError(place, f"has {len(cells)} cells, and the header {len(header)}")
        if header and cells:
            yield place, dict(zip(header, cells, strict=True))
        header = header or cells


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        parquet, arrow = import_module("pyarrow.parquet"), import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise TextFormatError(str(path), "needs pyarrow to be read: pip install pyarrow") from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise TextFormatError(str(path), f"cannot be read ({error})") from error
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
