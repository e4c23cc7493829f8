"""Forward kinematics of a planar body, vectorised over any leading shape: what the judge, the painter and a web canvas share."""

from __future__ import annotations

import mujoco
import numpy as np

PLANE = [0, 2]  # the sagittal plane: x forward, z up
ROOT_JOINTS = ("rootx", "rootz", "rooty")


class PlanarKinematics:
    """Where the capsules of a planar MuJoCo body are, from its joint positions alone.

    The body hangs on the joints ``rootx`` and ``rootz`` (slides) and ``rooty`` (hinge), in this order and first; all others are
    hinges about ±y. A capsule's end is then root + Σ over its chain of links, each turned by the link's absolute angle, so one
    table of offsets per link gives every end of every capsule.

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
        self._offsets = self._link_offsets(model, data, geoms)  # [L, 2C, 2]

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

    def _angles(self, qpos: np.ndarray) -> np.ndarray:
        """Absolute angle of each link [..., L], positive tips forward (about +y)."""
        turns = (qpos[..., 2:] - self._start[2:]) * self._signs
        angles = np.empty_like(turns)
        for chain in self._chains[1:]:
            links = [joint - 2 for joint in chain]
            if links:
                angles[..., links[-1]] = turns[..., links[0]] + sum(turns[..., link] for link in links[1:])
        return angles

    def capsules(self, qpos: np.ndarray) -> np.ndarray:
        """Ends of every capsule [..., C, 2, 2] as (x, z) in metres, from qpos [..., nq]."""
        angles = self._angles(qpos)
        ends = np.empty((*qpos.shape[:-1], self._offsets.shape[1], 2))
        ends[..., 0] = (self._root[0] + qpos[..., 0] - self._start[0])[..., None]
        ends[..., 1] = self._heights(qpos, np.sin(angles), np.cos(angles))
        for link, offset in enumerate(self._offsets):
            angle = angles[..., link, None]
            ends[..., 0] += np.cos(angle) * offset[:, 0] + np.sin(angle) * offset[:, 1]
        return ends.reshape(*qpos.shape[:-1], len(self.radii), 2, 2)

    def _heights(self, qpos: np.ndarray, sines: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        heights = np.empty((*qpos.shape[:-1], self._offsets.shape[1]))
        heights[...] = (self._root[1] + qpos[..., 1] - self._start[1])[..., None]
        for link, offset in enumerate(self._offsets):  # a loop of products: a matrix product's rounding depends on the batch
            heights += cosines[..., link, None] * offset[:, 1]
            heights -= sines[..., link, None] * offset[:, 0]
        return heights

    def clearances(self, qpos: np.ndarray) -> np.ndarray:
        """Height of each capsule's lowest point above the floor z = 0 [..., C] in metres, from qpos [..., nq]."""
        angles = self._angles(qpos)
        heights = self._heights(qpos, np.sin(angles), np.cos(angles))
        return np.minimum(heights[..., ::2], heights[..., 1::2]) - self.radii


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
