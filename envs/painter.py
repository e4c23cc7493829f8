"""Paints a planar robot, a few capsules in the sagittal plane, on a pygame surface: no OpenGL, no display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prefgym.envs import ink
from prefgym.envs.ink import Colour, pygame

FOLLOW = 0.15  # share of its lag that the camera makes up per picture
GROUND = 0.84  # height of the picture at which the ground line lies, from the top
TILE = 0.5  # metres


class Kinematics(Protocol):
    """What the painter needs to know of a body; ``PlanarKinematics`` is one."""

    radii: np.ndarray
    names: list[str]

    def capsules(self, qpos: np.ndarray) -> np.ndarray:
        """Ends (x, z) of every capsule [..., C, 2, 2] in metres, from qpos [..., nq]."""
        ...


@dataclass(frozen=True)
class Palette:
    """Colours of a picture; ``limbs`` maps a part of a capsule's name to its colour, the first that fits wins."""

    sky: tuple[Colour, Colour] = ((232, 238, 244), (250, 248, 243))
    ground: Colour = (43, 48, 66)
    tiles: tuple[Colour, Colour] = ((226, 223, 215), (214, 211, 203))
    ink: Colour = (43, 48, 66)
    quiet: Colour = (126, 132, 148)
    trail: Colour = (217, 87, 63)
    accent: Colour = (27, 138, 140)
    limbs: tuple[tuple[str, Colour], ...] = (
        ("foot", (27, 138, 140)),
        ("torso", (214, 84, 62)),
        ("head", (214, 84, 62)),
        ("thigh", (233, 129, 78)),
        ("leg", (244, 172, 92)),
        ("shin", (244, 172, 92)),
    )
    other: Colour = (233, 129, 78)

    def limb(self, name: str) -> Colour:
        """Colour of the capsule of this name."""
        return next((colour for part, colour in self.limbs if part in name), self.other)


class Painter:
    """Draws a body in a given pose; the camera follows it smoothly, so pictures are painted in order of time.

    Args:
        kinematics: gives the capsules of a pose.
        size: (width, height) of the picture in pixels.
        view: height of the world that is seen, in metres.
        palette: the colours.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        size: tuple[int, int] = (480, 360),
        view: float = 2.6,
        palette: Palette | None = None,
    ) -> None:
        if view <= 0:
            raise ValueError(f"`view` must be positive, got {view}")
        self.kinematics, self.view, self.palette = kinematics, float(view), palette or Palette()
        self._colours = [self.palette.limb(name) for name in kinematics.names]
        self._letters = ink.Lettering()
        self._camera: np.ndarray | None = None
        self.resize(size)

    def resize(self, size: tuple[int, int]) -> None:
        """Paint pictures of another (width, height) from now on."""
        if min(size) < 16:
            raise ValueError(f"`size` must be at least 16 × 16 pixels, got {size[0]} × {size[1]}")
        self.size = (int(size[0]), int(size[1]))
        self.scale = self.size[1] / self.view
        self._surface = pygame.Surface(self.size, depth=32)
        self._sky = _gradient(self.size, *self.palette.sky)

    def reset(self) -> None:
        """Let the camera jump to the body in the next picture, as at the start of an episode."""
        self._camera = None

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Where world points [..., 2] (x, z in metres) lie in the latest picture, as (x, y) in pixels."""
        x = np.asarray(points)[..., 0] * self.scale - self._origin[0]
        y = self._origin[1] - np.asarray(points)[..., 1] * self.scale
        return np.stack([x, y], axis=-1)

    def paint(
        self,
        qpos: np.ndarray,
        *,
        trail: np.ndarray | None = None,
        time: float | None = None,
        revolutions: float | None = None,
        clean_flips: int | None = None,
        caption: str = "",
    ) -> pygame.Surface:
        """Paint one picture.

        Args:
            qpos: [nq] the pose.
            trail: [K, 2] earlier places (x, z) of the torso in metres, the newest last.
            time: seconds, shown at the top right.
            revolutions: backward turns so far, shown at the top left, with a dial.
            clean_flips: clean backflips so far, shown beside the dial.
            caption: a line of text at the bottom.

        Returns:
            The painter's own surface: the next picture overwrites it.
        """
        pose = np.asarray(qpos, dtype=np.float64)
        if pose.ndim != 1 or not np.isfinite(pose).all():
            raise ValueError(f"`qpos` must be one pose [nq] of finite numbers, got {qpos!r}")
        capsules = self.kinematics.capsules(pose)
        self._follow(capsules)
        self._surface.blit(self._sky, (0, 0))
        self._draw_ground()
        pixels = pygame.surfarray.pixels3d(self._surface)
        self._draw_shadow(pixels, capsules)
        if trail is not None and len(trail) > 1:
            ink.ribbon(pixels, self.to_pixels(trail), 0.022 * self.scale, self.palette.trail, 0.45)
        self._draw_body(pixels, capsules)
        if revolutions is not None:
            self._draw_dial(pixels, revolutions)
        del pixels  # unlocks the surface
        self._draw_texts(time, revolutions, clean_flips, caption)
        return self._surface

    def frame(self, qpos: np.ndarray, **shown: object) -> np.ndarray:
        """The same picture as a new array uint8 [H, W, 3]; takes what ``paint`` takes."""
        surface = self.paint(qpos, **shown)  # type: ignore[arg-type]
        return np.ascontiguousarray(pygame.surfarray.pixels3d(surface).swapaxes(0, 1))

    def _follow(self, capsules: np.ndarray) -> None:
        """Move the camera towards the body: along with the torso, and up only when the body would leave the picture."""
        top = capsules[..., 1].max() + 0.15
        goal = np.array([capsules[0, :, 0].mean(), max(0.0, top - 0.96 * GROUND * self.view)])
        reach = np.abs(capsules[..., 0] - goal[0]).max() + 0.15
        lag = max(0.0, self.size[0] / self.scale / 2 - reach)
        camera = goal if self._camera is None else self._camera + FOLLOW * (goal - self._camera)
        self._camera = np.clip(camera, goal - np.array([lag, 0.1]), goal + np.array([lag, 0.3]))
        x, z = np.round(self._camera * self.scale)  # whole pixels: neither tiles nor body shimmer against each other
        self._origin = (x - self.size[0] // 2, round(GROUND * self.size[1]) + z)

    def _draw_ground(self) -> None:
        width, height = self.size
        top = int(self._origin[1])
        first = int(np.floor(self._origin[0] / self.scale / TILE))
        last = int(np.ceil((self._origin[0] + width) / self.scale / TILE))
        for tile in range(first, last):
            left, right = (round((tile + side) * TILE * self.scale - self._origin[0]) for side in (0, 1))
            pygame.draw.rect(self._surface, self.palette.tiles[tile % 2], (left, top, right - left, height - top))
            tick = self._unit(7 if tile % 2 == 0 else 4)
            pygame.draw.rect(self._surface, self.palette.ground, (left, top, self._unit(1), tick))
            if tile % 2 == 0:
                label = self._letters.render(f"{tile // 2} m", max(8, self._unit(10)), self.palette.quiet)
                self._surface.blit(label, (left - label.get_width() // 2, top + self._unit(10)))
        pygame.draw.rect(self._surface, self.palette.ground, (0, top - self._unit(1), width, self._unit(2)))

    def _draw_shadow(self, pixels: np.ndarray, capsules: np.ndarray) -> None:
        """A soft shadow on the ground, darker and narrower the nearer the body is."""
        top, depth = int(self._origin[1]) + self._unit(1), self._unit(9)
        if top >= self.size[1]:
            return
        block = pixels[:, top : top + 2 * depth]
        spots = (capsules[:, :1] + np.linspace(0, 1, 5)[:, None] * (capsules[:, 1:] - capsules[:, :1])).reshape(-1, 2)
        reach = np.maximum(spots[:, 1] - np.repeat(self.kinematics.radii, 5), 0)
        spread = (0.05 + 0.16 * reach) * self.scale
        away = (np.arange(block.shape[0]) - self.to_pixels(spots)[:, :1]).astype(np.float32) / spread[:, None].astype(
            np.float32
        )
        weight = 0.5 * np.exp(-1.6 * reach) / (1 + 3 * reach)
        dark = 1 - np.exp(-(weight[:, None] * np.exp(-0.5 * away**2)).sum(0))
        fade = np.exp(-0.5 * (np.arange(block.shape[1]) / (0.6 * depth)) ** 2)
        ink.blend(block, self.palette.ground, (0.42 * dark[:, None] * fade[None]).astype(np.float32))

    def _draw_body(self, pixels: np.ndarray, capsules: np.ndarray) -> None:
        ends = self.to_pixels(capsules)
        radii = self.kinematics.radii * self.scale
        outline = max(1.0, 0.012 * self.scale)
        for part in reversed(range(len(radii))):  # the torso last, on top
            ink.capsule(pixels, ends[part, 0], ends[part, 1], radii[part], self._colours[part], outline, shine=0.22)
        for spot in self._joints(capsules):
            ink.disc(pixels, spot, 0.34 * float(radii.min()), (255, 250, 240), 0.9)
        self._draw_eye(pixels, ends, radii)

    def _joints(self, capsules: np.ndarray) -> np.ndarray:
        """Pixels [J, 2] where two capsules hinge: ends of theirs that (nearly) coincide."""
        ends = capsules.reshape(-1, 2)
        near = np.hypot(*(ends[:, None] - ends[None]).transpose(2, 0, 1)) < 0.6 * self.kinematics.radii.min()
        part = np.repeat(np.arange(len(capsules)), 2)
        first, second = np.nonzero(near & (part[:, None] < part[None]))
        return self.to_pixels((ends[first] + ends[second]) / 2)

    def _draw_eye(self, pixels: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> None:
        """An eye at the free end of the head, or of the torso, that looks forward: it shows the way the body faces."""
        names = self.kinematics.names
        part = next((index for index, name in enumerate(names) if "head" in name), 0)
        others = np.delete(ends, part, axis=0).reshape(-1, 2)
        if len(others) == 0:
            return
        gaps = [np.hypot(*(others - end).T).min() for end in ends[part]]
        top, bottom = ends[part][np.argmax(gaps)], ends[part][np.argmin(gaps)]
        up = (top - bottom) / max(float(np.hypot(*(top - bottom))), 1e-6)
        forward = np.array([-up[1], up[0]])
        size = 0.5 * radii[part]
        ink.disc(pixels, top + 0.25 * radii[part] * forward, size, (255, 252, 246))
        ink.disc(pixels, top + (0.25 * radii[part] + 0.38 * size) * forward, 0.5 * size, self.palette.ink)

    def _draw_dial(self, pixels: np.ndarray, revolutions: float) -> None:
        """A dial that fills once per revolution."""
        centre, radius, width = (self._unit(28), self._unit(28)), self._unit(13), self._unit(5)
        ink.ring(pixels, centre, radius, width, self.palette.tiles[1])
        turn = revolutions - np.trunc(revolutions)
        ink.ring(pixels, centre, radius, width, self.palette.accent if revolutions >= 0 else self.palette.trail, turn)

    def _draw_texts(self, time: float | None, revolutions: float | None, clean_flips: int | None, caption: str) -> None:
        left, right, line = self._unit(12), self.size[0] - self._unit(12), self._unit(18)
        if revolutions is not None:
            left = self._unit(50)
            self._write(
                f"{round(revolutions, 1) + 0.0:.1f} revolutions", (left, self._unit(11)), self.palette.ink, bold=True
            )
        if clean_flips is not None:
            text = f"{clean_flips} clean {'flip' if clean_flips == 1 else 'flips'}"
            self._write(
                text,
                (left, self._unit(11) + line),
                self.palette.accent if clean_flips else self.palette.quiet,
                bold=clean_flips > 0,
            )
        if time is not None:
            self._write(f"{time:.1f} s", (right, self._unit(11)), self.palette.quiet, align=1.0)
        if caption:
            self._write(caption, (self.size[0] / 2, self.size[1] - self._unit(20)), self.palette.ink, align=0.5)

    def _write(self, text: str, place: Sequence[float], colour: Colour, bold: bool = False, align: float = 0.0) -> None:
        label = self._letters.render(text, max(9, self._unit(13)), colour, bold)
        self._surface.blit(label, (round(place[0] - align * label.get_width()), round(place[1])))

    def _unit(self, length: float) -> int:
        """A length for a picture 360 pixels high, in this picture's pixels."""
        return max(1, round(length * self.size[1] / 360))


def _gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> pygame.Surface:
    surface = pygame.Surface(size, depth=32)
    for y in range(size[1]):
        share = min(1.0, y / (GROUND * size[1]))
        colour = [round(a + share * (b - a)) for a, b in zip(top, bottom, strict=True)]
        pygame.draw.line(surface, colour, (0, y), (size[0], y))
    return surface
