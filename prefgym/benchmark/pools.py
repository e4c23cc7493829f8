"""Pools: segments of behaviour from random to expert, made once and frozen, to choose queries from and to judge by.

PPO learns a task's true reward. Four policies on its way, from random actions to the last, are played again, twice: for
the candidates, which methods may ask about, and for the held-out queries, which they never see. A pool is a file in
prefgym's cache, named by all that it depends on. Of a text task, it is a language model that learns; see `text_making`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.tasks import Task
from prefgym.cache import cache_folder
from prefgym.pages import write_whole
from prefgym.recorder import FIELDS, Pieces

FORMAT = 1
"""Of the files; a change of how pools are made is one of the format too."""

POLICY = "policy "
"""What the names of a policy's weights begin with, in a pool's file."""

STAGES = ("random", "early", "half", "expert")
"""Of the behaviour: random actions, about a tenth and a half of the way by true return, and the end."""


@dataclass(frozen=True)
class PoolSpec:
    """How a pool is made.

    Attributes:
        steps: env steps of PPO on the true reward; 0 for as many as the task says an expert needs.
        candidates: segments a stage that methods may ask about.
        queries: held-out queries a stage, of two segments of that stage each; no segment is in two of them.
        envs: environments simulated at once.
        snapshots: of the policy, from which those of the stages are taken.
        seed: of everything random.
    """

    steps: int = 0
    candidates: int = 300
    queries: int = 200
    envs: int = 128
    snapshots: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"steps": 0, "candidates": 2, "queries": 1, "envs": 1, "snapshots": 3, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Pool:
    """Segments by stage, the same number of each, stage after stage.

    Attributes:
        candidates: [4 C].
        held_out: [4 * 2 Q]; the held-out queries are its segments 0 and 1, 2 and 3, …
        facts: true returns of whole episodes of the "random" and of the "expert" stage, and more about how it was made.
        checksum: of all of it (SHA-256, hexadecimal).
        policy: of a text task the weights of the language model after its fine-tuning, with which rewards begin; empty
            otherwise.
    """

    candidates: Pieces
    held_out: Pieces
    facts: dict[str, Any]
    checksum: str = field(default="")
    policy: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """The held-out queries [4 Q, 2], as numbers of `held_out`."""
        return np.arange(len(self.held_out)).reshape(-1, 2)

    def score(self, returns: Any) -> Any:
        """How far true returns, a number or an array, are from random actions (0) to the expert (1).

        Raises:
            ValueError: the expert is no better than random actions.
        """
        lowest, expert = self.facts["random_return"], self.facts["expert_return"]
        if not expert > lowest:
            raise ValueError(f"the expert's return must be more than that of random actions, {lowest}, got {expert}")
        return (returns - lowest) / (expert - lowest)

    def candidates_of(self, stage: int) -> Pieces:
        """The candidates of one of the `STAGES`, by its place among them."""
        return self.candidates.take(np.array_split(np.arange(len(self.candidates)), len(STAGES))[stage])

    @cached_property
    def stages(self) -> NDArray[np.str_]:
        """The stage of each held-out query [4 Q]."""
        return np.repeat(np.array(STAGES), len(self.pairs) // len(STAGES))


def load_pool(task: Task, spec: PoolSpec, on_progress: Callable[[float], None] = lambda share: None) -> Pool:
    """The pool of a task, from the cache; made first, if it is not there.

    Args:
        task: what it is of.
        spec: how it is made.
        on_progress: called while it is made, with the share that is done.
    """
    path = pool_path(task, spec)
    if not path.exists():
        write_pool(path, _maker(task)(task, spec, on_progress))
    return read_pool(path)


def _maker(task: Task) -> Callable[[Task, PoolSpec, Callable[[float], None]], Pool]:
    if task.text:
        from prefgym.benchmark.text_making import make_text_pool

        return make_text_pool
    from prefgym.benchmark.making import make_pool

    return make_pool


def pool_path(task: Task, spec: PoolSpec) -> Path:
    """Where a pool is kept, or will be."""
    told = {"format": FORMAT, "env_id": task.env_id, "length": task.segment_length, "steps": spec.steps}
    told |= {"expert_steps": task.expert_steps, **asdict(spec)}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder("pools") / f"{task.name}-{digest}.npz"


def write_pool(path: Path, pool: Pool) -> None:
    """Writes a pool, as a whole or not at all; another process may write the same at the same time."""
    buffer = BytesIO()
    facts = np.frombuffer(json.dumps(pool.facts).encode(), np.uint8)
    arrays = _arrays(pool.candidates, pool.held_out, pool.policy)
    np.savez_compressed(buffer, allow_pickle=False, facts=facts, **arrays)
    write_whole(path, buffer.getvalue())


def read_pool(path: Path) -> Pool:
    """Reads what `write_pool` wrote.

    Raises:
        ValueError: the file is damaged; the message says what to do.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes())
            parts = [_pieces(file, name) for name in ("candidates", "held_out")]
            policy = {name.removeprefix(POLICY): file[name] for name in file.files if name.startswith(POLICY)}
    except Exception as error:  # a damaged zip raises about a dozen types, some of them private
        raise ValueError(f"{path} is damaged ({error}): delete it, and it is made again") from error
    return Pool(parts[0], parts[1], facts, _checksum(_arrays(parts[0], parts[1], policy)), policy)


def _arrays(candidates: Pieces, held_out: Pieces, policy: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """All of a pool by name; what a pool of control has none of is left out."""
    named = {"candidates": candidates, "held_out": held_out}
    names = (*FIELDS, "steps", *(["groups"] if policy else []))
    found = {f"{part}_{name}": getattr(pieces, name) for part, pieces in named.items() for name in names}
    return found | {POLICY + name: array for name, array in policy.items()}


def _pieces(file: Any, part: str) -> Pieces:
    named = {name: file[f"{part}_{name}"] for name in (*FIELDS, "steps")}
    return Pieces(**named, groups=file.get(f"{part}_groups"))


def _checksum(arrays: Mapping[str, NDArray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
