"""Segments: contiguous pieces of one episode, which is what a teacher compares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

FORMAT = 1
"""Version of the bytes that `Segment.to_bytes` writes."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Segment:
    """T consecutive steps of one episode, checked, copied and made read-only when built.

    All arrays are float32, so token ids are exact up to 2**24. Two segments are the same when their digests are.

    Args:
        observations: [T, O], the observation *reached* by each action (what `env.step` returned for it).
        actions: [T, A]; A may be 0.
        shown: [T, D], what a clip is drawn from: qpos of a planar body, tokens of a text; D may be 0.
        rewards: [T], the hidden true reward of each step, for reports and synthetic teachers.
        env_id: Gymnasium id of the environment.
        step: env steps the run had taken when the segment began: its age.

    Raises:
        ValueError: wrong number of dimensions, unequal T, T = 0, numbers that are not finite, a negative step.
    """

    observations: Array
    actions: Array
    shown: Array
    rewards: Array
    env_id: str = ""
    step: int = 0
    _digest: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        for name, axes in _AXES.items():
            _set(self, name, _coerced(name, getattr(self, name), axes))
        _set(self, "step", index(self.step))
        if self.step < 0:
            raise ValueError(f"`step` must be at least 0, got {self.step}")
        if not isinstance(self.env_id, str):
            raise ValueError(f"`env_id` must be a string, got {self.env_id!r}")
        for name in _AXES:
            if len(getattr(self, name)) != self.length:
                raise ValueError(f"`{name}` must have as many steps as `rewards`: {_shapes(self)}")
        if self.length < 1 or self.observations.shape[1] < 1:
            raise ValueError(f"a segment needs at least 1 step and 1 number per observation, got {_shapes(self)}")

    @property
    def length(self) -> int:
        """T, the number of steps."""
        return len(self.rewards)

    @property
    def true_return(self) -> float:
        """Sum of the true rewards."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the contents; equal for two segments if and only if they are equal bit for bit."""
        if not self._digest:
            _set(self, "_digest", _hash(self))
        return self._digest

    def to_bytes(self) -> bytes:
        """The segment as a compressed npz of one array of bytes: a line of JSON, then float32, column after column."""
        # One array, since each costs as much as compressing it; by columns, which compress better than rows.
        columns = np.concatenate([self.observations, self.actions, self.shown, self.rewards[:, None]], axis=1)
        data = _header(self) + b"\n" + columns.T.astype("<f4").tobytes()
        buffer = BytesIO()
        np.savez_compressed(buffer, segment=np.frombuffer(data, np.uint8))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Segment:
        """Reads what `to_bytes` wrote, validated like any other segment.

        Raises:
            ValueError: the bytes are damaged, or of a format this version cannot read.
        """
        try:
            with np.load(BytesIO(data), allow_pickle=False) as file:
                line, _, numbers = file["segment"].tobytes().partition(b"\n")
            header = json.loads(line)
        except Exception as error:  # damaged zip headers raise about a dozen types, some of them private
            raise ValueError(f"not a stored segment, or a damaged one: {error}") from error
        return _parsed(header, numbers)


def cut(
    observations: ArrayLike,
    actions: ArrayLike,
    shown: ArrayLike,
    rewards: ArrayLike,
    episode_ids: Sequence[int] | NDArray[np.integer],
    start: int,
    length: int,
    *,
    env_id: str = "",
    step: int = 0,
) -> Segment:
    """Copies `length` steps out of one environment's recording.

    Args:
        observations: [L, O] of the whole recording.
        actions: [L, A].
        shown: [L, D].
        rewards: [L].
        episode_ids: [L], the episode each step belongs to.
        start: first step of the segment within the recording.
        length: number of steps, at least 1.
        env_id: Gymnasium id of the environment.
        step: env steps the run had taken when the *segment* began.

    Raises:
        ValueError: the segment would leave the recording or cross an episode's end.
    """
    total, end = len(episode_ids), start + length
    if length < 1:
        raise ValueError(f"`length` must be at least 1, got {length}")
    if start < 0 or end > total:
        raise ValueError(f"steps {start} to {end} do not lie within the recording of {total} steps")
    episodes = np.unique(np.asarray(episode_ids[start:end]))
    if len(episodes) > 1:
        raise ValueError(f"a segment may not cross an episode's end: steps {start} to {end} lie in episodes {episodes}")
    first, second, third, fourth = (np.asarray(array)[start:end] for array in (observations, actions, shown, rewards))
    return Segment(first, second, third, fourth, env_id, step)


_AXES = {"observations": "[T, O]", "actions": "[T, A]", "shown": "[T, D]", "rewards": "[T]"}
_set = object.__setattr__  # the class is frozen for everybody else


def _coerced(name: str, value: ArrayLike, axes: str) -> Array:
    # Always a copy: a view would pin the rollout it was cut from, and could change after the digest was taken.
    with np.errstate(over="ignore"):
        array: Array = np.array(value, dtype=np.float32, order="C")
    if array.ndim != axes.count(",") + 1:
        raise ValueError(f"`{name}` must have shape {axes}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite in float32, got {array[~np.isfinite(array)][0]}")
    array.flags.writeable = False
    return array


def _shapes(segment: Segment) -> str:
    return ", ".join(f"{name} {list(getattr(segment, name).shape)}" for name in _AXES)


def _header(segment: Segment) -> bytes:
    widths = [getattr(segment, name).shape[1] for name in ("observations", "actions", "shown")]
    facts = {"format": FORMAT, "env_id": segment.env_id, "step": segment.step, "length": segment.length}
    return json.dumps({**facts, "widths": widths}, sort_keys=True).encode()


def _hash(segment: Segment) -> str:
    digest = hashlib.sha256(_header(segment))
    for name in _AXES:
        digest.update(np.ascontiguousarray(getattr(segment, name), "<f4").tobytes())
    return digest.hexdigest()


def _parsed(header: dict, numbers: bytes) -> Segment:
    if header.get("format") != FORMAT:
        raise ValueError(f"the segment's format must be {FORMAT}, got {header.get('format')}: use a newer prefgym")
    columns = np.frombuffer(numbers, "<f4").reshape(-1, header["length"]).T
    observations, actions, shown, rewards = np.split(columns, np.cumsum(header["widths"]), axis=1)
    return Segment(observations, actions, shown, rewards[:, 0], header["env_id"], header["step"])
