"""Forward kinematics of a planar body, vectorised over any leading shape; the judge and the painter share it."""

from __future__ import annotations

from itertools import pairwise

import mujoco
import numpy as np

PLANE = [0, 2]  # the sagittal plane: x forward, z up
ROOT_JOINTS = ("rootx", "rootz", "rooty")
Turn = tuple[np.ufunc, int]
"""Sine or cosine, of which link's angle."""
Leg = tuple[Turn, float]
"""A part of the way from the root to a capsule's end: a turn, times how many metres."""


class PlanarKinematics:
    """Where the capsules of a planar MuJoCo body are, from its joint positions alone.

    The body hangs on the joints ``rootx`` and ``rootz`` (slides) and ``rooty`` (hinge), in this order and first; all
    others are hinges about ±y. A capsule's end is then root + Σ over its chain of links, each turned by the link's
    absolute angle, so one table of offsets per link gives every end of every capsule.

    Args:
        model: the compiled MuJoCo model; its geoms on bodies must be capsules.

    Attributes:
        radii: [C] metres.
        names: [C] names of the capsules.
        tree: [C] index of each capsule's body, 1 for the first (0 is the world).
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        _check_planar(model)
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        geoms = np.flatnonzero(model.geom_bodyid > 0)
        self.radii = model.geom_size[geoms, 0].copy()
        self.names = [model.geom(int(geom)).name for geom in geoms]
        self.tree = model.geom_bodyid[geoms].copy()
        self._start = model.qpos0.copy()
        self._chains = [_chain(model, body) for body in range(model.nbody)]
        self._signs = np.array([model.jnt_axis[joint, 1] for joint in range(2, model.njnt)])
        self._paths = [Paths(legs) for legs in _legs(self._link_offsets(model, data, geoms))]
        self._parents = _parents(self._chains)

    def _link_offsets(self, model: mujoco.MjModel, data: mujoco.MjData, geoms: np.ndarray) -> np.ndarray:
        """Offset (x, z) that each link (hinge) adds to each capsule end [L, 2C, 2], at rest, plus the root's place."""
        links = model.njnt - 2
        offsets = np.zeros((links, 2 * len(geoms), 2))
        self._root = data.xanchor[2, PLANE].copy()
        for number, geom in enumerate(geoms):
            half = data.geom_xmat[geom].reshape(3, 3)[:, 2] * model.geom_size[geom, 1]
            chain = self._chains[model.geom_bodyid[geom]]
            for end, sign in enumerate((-1, 1)):
                stops = [data.xanchor[joint] for joint in chain] + [data.geom_xpos[geom] + sign * half]
                for joint, here, there in zip(chain, stops, stops[1:], strict=False):
                    offsets[joint - 2, 2 * number + end] = (there - here)[PLANE]
        return offsets

    def capsules(self, qpos: np.ndarray) -> np.ndarray:
        """Ends of every capsule [..., C, 2, 2] as (x, z) in metres, from qpos [..., nq]."""
        moved = self._moved(qpos)
        angles = self._angles(moved)
        ends = np.stack([np.stack(self._ends(axis, moved, angles)) for axis in (0, 1)], axis=-1)
        return ends.swapaxes(0, 1).reshape(*qpos.shape[:-1], len(self.radii), 2, 2)

    def clearances(self, qpos: np.ndarray) -> np.ndarray:
        """Height of each capsule's lowest point above the floor z = 0 [..., C] in metres, from qpos [..., nq]."""
        moved = self._moved(qpos)
        heights = self._ends(1, moved, self._angles(moved))
        lowest = np.empty((len(self.radii), moved.shape[1]))
        for one, other, out in zip(heights[::2], heights[1::2], lowest, strict=True):
            np.minimum(one, other, out=out)
        lowest -= self.radii[:, None]
        return np.moveaxis(lowest.reshape(-1, *qpos.shape[:-1]), 0, -1)

    # Below, B is the size of the batch and the last axis: numpy is slow at short innermost axes.

    def _moved(self, qpos: np.ndarray) -> np.ndarray:
        """How far each joint is from where the model starts [nq, B]."""
        return np.subtract(qpos.reshape(-1, len(self._start)).T, self._start[:, None], order="C")

    def _angles(self, moved: np.ndarray) -> np.ndarray:
        """The links' absolute angles [L, B], radians, positive tips forward (about +y)."""
        angles = moved[2:] * self._signs[:, None]
        for link, parent in self._parents.items():
            angles[link] += angles[parent]
        return angles

    def _ends(self, axis: int, moved: np.ndarray, angles: np.ndarray) -> list[np.ndarray]:
        """Where the capsules' ends are along x (axis 0) or z (axis 1), 2C arrays [B]."""
        return self._paths[axis].walk(self._root[axis] + moved[axis], angles)


class Paths:
    """Sums along ways that begin alike: what several capsules' ends share is worked out once, what none needs never.

    Args:
        legs: the way from the root to each end.
    """

    def __init__(self, legs: list[list[Leg]]) -> None:
        places: dict[tuple[Leg, ...], int] = {(): 0}
        self._steps: list[tuple[int, Leg]] = []  # from which place, by which leg: to the next place
        for way in legs:
            for length in range(1, len(way) + 1):
                if (reached := tuple(way[:length])) not in places:
                    places[reached] = len(places)
                    self._steps.append((places[reached[:-1]], reached[-1]))
        self._ends = [places[tuple(way)] for way in legs]
        self._turns = dict.fromkeys(turn for way in legs for turn, _ in way)

    def walk(self, root: np.ndarray, angles: np.ndarray) -> list[np.ndarray]:
        """The ends [B] from the root's places [B] and the links' angles [L, B]."""
        turns = {(wave, link): wave(angles[link]) for wave, link in self._turns}  # most of the time goes here
        places = [root]
        for start, (turn, length) in self._steps:  # not a matrix product: its rounding depends on B
            place = length * turns[turn]
            place += places[start]
            places.append(place)
        return [places[end] for end in self._ends]


def _legs(offsets: np.ndarray) -> list[list[list[Leg]]]:
    """The legs to each end, for x and for z, of links that turn offsets [L, 2C, 2] about +y."""
    ways: list[list[list[Leg]]] = [[[] for _ in range(offsets.shape[1])] for _ in range(2)]
    for link, ends in enumerate(offsets):
        for end, (across, up) in enumerate(ends.tolist()):
            for axis, wave, length in ((0, np.cos, across), (0, np.sin, up), (1, np.cos, up), (1, np.sin, -across)):
                if length != 0:
                    ways[axis][end].append(((wave, link), length))
    return ways


def _parents(chains: list[list[int]]) -> dict[int, int]:
    """The link that each link but the root hangs on, parents first."""
    pairs = {child - 2: parent - 2 for chain in chains for parent, child in pairwise(chain)}
    return dict(sorted(pairs.items()))


def _check_planar(model: mujoco.MjModel) -> None:
    names = tuple(model.joint(joint).name for joint in range(min(3, model.njnt)))
    if names != ROOT_JOINTS:
        raise ValueError(f"a planar body's first joints must be {ROOT_JOINTS}, got {names}")
    if np.any(np.abs(model.jnt_axis[2:, 1]) != 1):
        raise ValueError("every hinge of a planar body must turn about the y axis")
    kinds = model.geom_type[model.geom_bodyid > 0]
    if np.any(kinds != mujoco.mjtGeom.mjGEOM_CAPSULE):
        raise ValueError("every geom on a planar body must be a capsule")


def _chain(model: mujoco.MjModel, body: int) -> list[int]:
    """Hinges from the root to a body, the root's own (rooty) first."""
    chain: list[int] = []
    while body > 0:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        chain = [joint for joint in range(first, first + count) if joint >= 2] + chain
        body = int(model.body_parentid[body])
    return chain
