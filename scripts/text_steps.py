"""What the verbs of the single steps (sft, reward, dpo, ppo) share: the folder, the model, and how they are told."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
import tyro
from rich.console import Console

from prefgym.agents import distributed
from prefgym.agents.language_model import check_causal, with_lora
from prefgym.agents.text_policy import TextPolicy, load_policy
from prefgym.agents.trainer_callbacks import last_checkpoint
from prefgym.runs import RunError
from prefgym.scripts.options import to_json

STEP, FIGURES, CHECKPOINTS, LOCK = "step.json", "report.json", "checkpoints", "step.lock"
"""Files in a step's folder: what it is told to do, what came of it (the last one written); while it goes on, two."""

SMALL = 5_000_000
"""Parameters, from which on a model counts as a real one, which learns at lower rates."""

SAVE_SECONDS = 60.0
"""Between two checkpoints, unless told otherwise."""

OF_THIS_CALL = ("out", "progress", "data", "rankings", "prompts")
"""Options that may differ when a step is gone on with; of files, what is in them may not."""

NONE_HELD_OUT = "Nothing was held out, so that how good it is nobody knows"
"""Said in place of figures, where all data are of one prompt or --held-out is 0."""

Config = TypeVar("Config")


def told(kind: type[Config], verb: str, arguments: Sequence[str], default: Config | None = None) -> Config:
    """The options of a verb; `default` has what is not said."""
    program = f"prefgym {verb}"
    if default is None:
        return tyro.cli(kind, prog=program, args=list(arguments))
    return tyro.cli(kind, prog=program, args=list(arguments), default=default)


def console(*, stderr: bool = True) -> Console:
    """Where it is said how things go; what came of them goes to standard output. Of processes, the first speaks."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, quiet=not distributed.is_first())


# The folder.


class Step:
    """The folder that a step leaves: checkpoints while it goes on, then a model that transformers loads.

    Used as a context: one process at a time, or the group that torchrun started, whose first process alone locks and
    writes. Who is stopped, by Ctrl-C or a kill, goes on by the same command.

    Args:
        verb: of prefgym.
        config: a dataclass with `out`, the folder.
        arguments: as they were typed, to say how to go on.
        data: what it learns from: if that has changed there is no going on.
    """

    def __init__(self, verb: str, config: Any, arguments: Sequence[str], data: Any = None) -> None:
        self.folder, self.console = Path(config.out), console()
        self.checkpoints = self.folder / CHECKPOINTS
        self.command = shlex.join(["prefgym", verb, *arguments])
        self._told = {"verb": verb, "data": _digest(data), "options": to_json(config)}
        self._lock: sqlite3.Connection | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Step:
        distributed.of_first(self._open)
        return self

    def _open(self) -> None:
        check_free(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            self._begin()
        except BaseException:
            self._unlock()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not distributed.is_first():
            return
        self._unlock()
        if kind is None:
            return
        if self._kept or not issubclass(kind, Exception):
            self.pause()
        else:  # a mistake, most likely: the error says which
            self._leave()

    def pause(self) -> None:
        """Says how to go on."""
        how = "goes on" if self._kept else "begins anew"
        self.console.print(f"Not finished. The same command {how}: {self.command}")

    def finish(self, figures: dict[str, Any]) -> float:
        """Notes what came of it, when all else is written; checkpoints are not needed any more. Returns the seconds."""
        seconds = time.monotonic() - self._began
        distributed.of_first(lambda: self._note(figures | {"seconds": round(seconds, 1)}))  # and all wait until it has
        return seconds

    def _note(self, figures: dict[str, Any]) -> None:
        write(self.folder / FIGURES, figures)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @property
    def _kept(self) -> bool:
        """Whether there is a checkpoint."""
        return self.checkpoints.exists() and any(self.checkpoints.iterdir())

    def _leave(self) -> None:
        """Takes back what has been made, unless something is in it."""
        if self.checkpoints.exists():
            self.checkpoints.rmdir()
        if [path.name for path in self.folder.iterdir()] == [STEP]:
            (self.folder / STEP).unlink()
            self.folder.rmdir()

    def _unlock(self) -> None:
        assert self._lock is not None
        self._lock.close()
        (self.folder / LOCK).unlink(missing_ok=True)

    def _begin(self) -> None:
        found = last_checkpoint(self.checkpoints)
        if not self._kept:  # there is nothing that other options could spoil
            write(self.folder / STEP, self._told)
            return
        before = json.loads((self.folder / STEP).read_text())
        differing = [*_differing(before, self._told)]
        if differing:
            raise RunError(f"{self.folder} was begun with {'; '.join(differing)}: choose another --out")
        where = f"step {found.rpartition('-')[2]}" if found else "its last checkpoint"
        self.console.print(f"Going on in {self.folder} from {where}")


def check_free(folder: Path) -> None:
    """Refuses a folder that has something else, or a step that is finished; of processes, the first one looks.

    Raises:
        RunError: it does.
    """
    if not distributed.is_first():  # which would see what the first one makes
        return
    if (folder / FIGURES).exists():
        raise RunError(f"{folder} has a finished {_verb(folder)}: choose another --out")
    used = folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir()))
    if used and not (folder / STEP).exists():
        raise RunError(f"{folder} is in use: it has something else, which is left as it is. Choose another --out")


def write(path: Path, facts: Any) -> None:
    """Writes JSON, as a whole or not at all; numbers that are not finite, which it does not have, become null.

    Raises:
        RunError: it cannot be written.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.write_text(json.dumps(_finite(facts), indent=2) + "\n")
        draft.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}") from error


def _finite(facts: Any) -> Any:
    if isinstance(facts, Mapping):
        return {name: _finite(value) for name, value in facts.items()}
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


def _verb(folder: Path) -> str:
    try:
        return str(json.loads((folder / STEP).read_text())["verb"])
    except (OSError, ValueError, KeyError):
        return "step"


def _locked(folder: Path) -> sqlite3.Connection:
    """A lock that ends with the process, however that ends, on any system."""
    lock = sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise RunError(f"{folder} is in use by another process: wait for it, or choose another --out") from error
    return lock


def _digest(data: Any) -> str:
    return hashlib.sha256(repr(data).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it was, in words."""
    if before["verb"] != now["verb"]:
        yield f"prefgym {before['verb']}"
        return
    if before["data"] != now["data"]:
        yield "other data"
    old, new = (dict(_flat(one["options"])) for one in (before, now))
    yield from (
        f"{name} = {old.get(name)!r}, not {new.get(name)!r}" for name in old | new if old.get(name) != new.get(name)
    )


def _flat(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif name not in OF_THIS_CALL:
            yield name, value


# The model.


def open_model(name: str, seed: int) -> TextPolicy:
    """A policy by name, checked before anything takes time.

    Raises:
        OSError: there is no such model, or it cannot be reached.
        ValueError: it is not causal, or its tokenizer lacks what is needed.
    """
    policy = load_policy(name, seed=seed)
    _ = policy.codec  # which checks the tokenizer
    check_causal(policy.model)  # `LanguageModel` checks more, but switches dropout off, which SFT may want
    return policy


def is_small(model: Any) -> bool:
    """Whether a model has less than `SMALL` parameters."""
    return sum(parameter.numel() for parameter in model.parameters()) < SMALL


def adapted(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """The model with LoRA's adapters, or itself for the rank 0."""
    if not rank:
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return with_lora(model, rank, alpha)
