"""Clips: a stored sequence of poses as frames, side by side, as a filmstrip, as a GIF, WebP or MP4 file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from prefgym.envs import ink
from prefgym.envs.ink import Colour, pygame
from prefgym.envs.painter import Kinematics, Painter

COLOURS = 128  # of the palette of a GIF
TRAIL = 0.8  # seconds
BAR = 26  # height of the labels over clips that stand side by side, pixels


def clip_frames(
    kinematics: Kinematics,
    qpos: np.ndarray,
    fps: float = 25.0,
    speed: float = 1.0,
    *,
    rate: float = 50.0,
    size: tuple[int, int] = (320, 240),
    revolutions: np.ndarray | None = None,
    clean_flips: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    clock: bool = True,
) -> np.ndarray:
    """Paint poses as a clip, in-between poses interpolated.

    Args:
        kinematics: gives the capsules of a pose.
        qpos: [T, nq] poses, ``rate`` per second; angles unwrapped.
        fps: pictures per second.
        speed: 1 is real time, 0.5 slow motion.
        rate: poses per second.
        size: (width, height) in pixels.
        revolutions: [T] backward turns so far; shown when given.
        clean_flips: [T] clean flips so far; shown when given.
        captions: T lines of text.
        clock: show the time.

    Returns:
        [F, height, width, 3] uint8 with F = ⌊(T - 1) / rate · fps / speed⌋ + 1.
    """
    poses = _poses(qpos)
    _positive(fps=fps, speed=speed, rate=rate)
    _lengths(len(poses), revolutions=revolutions, clean_flips=clean_flips, captions=captions)
    painter = Painter(kinematics, size)
    torso = kinematics.capsules(poses)[:, 0].mean(axis=1)
    frames = []
    for place in np.arange(int((len(poses) - 1) * fps / (speed * rate) + 1e-9) + 1) * speed * rate / fps:
        before = min(int(place + 1e-9), len(poses) - 1)
        frames.append(
            painter.frame(
                _between(poses, place),
                trail=np.vstack([torso[max(0, before - int(TRAIL * rate)) : before + 1], _between(torso, place)]),
                time=place / rate if clock else None,
                revolutions=None if revolutions is None else float(_between(np.asarray(revolutions, float), place)),
                clean_flips=None if clean_flips is None else int(clean_flips[before]),
                caption="" if captions is None else captions[before],
            )
        )
    return np.stack(frames)


def filmstrip(
    kinematics: Kinematics,
    qpos: np.ndarray,
    count: int = 6,
    *,
    rate: float = 50.0,
    size: tuple[int, int] = (160, 180),
    gap: int = 3,
) -> np.ndarray:
    """Paint ``count`` poses, evenly spaced over qpos [T, nq], side by side.

    Returns:
        [height, count · (width + gap) - gap, 3] uint8.
    """
    poses = _poses(qpos)
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")
    painter = Painter(kinematics, size)
    torso = kinematics.capsules(poses)[:, 0].mean(axis=1)
    panels = []
    for index in np.linspace(0, len(poses) - 1, count).round().astype(int):
        painter.reset()
        panels.append(
            painter.frame(poses[index], trail=torso[max(0, index - int(TRAIL * rate)) : index + 1], time=index / rate)
        )
        panels.append(np.full((size[1], gap, 3), 255, np.uint8))
    return np.concatenate(panels[:-1], axis=1)


def side_by_side(
    first: np.ndarray,
    second: np.ndarray,
    labels: tuple[str, str] = ("first", "second"),
    chosen: int | None = None,
    gap: int = 6,
) -> np.ndarray:
    """Two clips [F, H, W, 3] beside each other, a label over each; the shorter one rests on its last picture.

    Args:
        first: the clip on the left.
        second: the clip on the right, of the same height.
        labels: text over each.
        chosen: 0 or 1: the clip that was preferred, its label is accented; None for a tie.
        gap: pixels between them.

    Returns:
        [F, H + 26, 2 W + gap, 3] uint8.
    """
    clips = [_frames(first), _frames(second)]
    if clips[0].shape[1] != clips[1].shape[1]:
        raise ValueError(f"clips side by side must be of one height, got {clips[0].shape[1]} and {clips[1].shape[1]}")
    length = max(map(len, clips))
    columns = []
    for index, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        held = clip[np.minimum(np.arange(length), len(clip) - 1)]
        bar = np.broadcast_to(_bar(label, clip.shape[2], chosen == index), (length, BAR, clip.shape[2], 3))
        columns.append(np.concatenate([bar, held], axis=1))
    white = np.full((length, columns[0].shape[1], gap, 3), 255, np.uint8)
    return np.concatenate([columns[0], white, columns[1]], axis=2)


def write_animation(path: str | Path, frames: np.ndarray, fps: float = 25.0) -> Path:
    """Write frames [F, H, W, 3] uint8 as an endless animation; the suffix says how: .gif, .webp or .mp4.

    Raises:
        ValueError: unknown suffix; frames of another shape or kind; fps not positive, or above 50 for .gif.
        ImportError: .mp4 without the extra ``video``.
        OSError: the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in WRITERS:
        close = get_close_matches(suffix, WRITERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"Unknown kind of animation {suffix!r} ({target.name}).{hint} Known: {', '.join(WRITERS)}.")
    _positive(fps=fps)
    WRITERS[suffix](target, _frames(frames), float(fps))
    return target


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    if fps > 50:
        raise ValueError(f"`fps` must be at most 50 for .gif, got {fps:g}: viewers play faster ones slowly")
    palette = _shared_palette(frames)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = _durations(len(frames), fps, 10)
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)


def _write_webp(path: Path, frames: np.ndarray, fps: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    durations = _durations(len(frames), fps, 1)
    images[0].save(
        path, "WEBP", save_all=True, append_images=images[1:], duration=durations, loop=0, quality=80, method=4
    )


def _write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    try:
        ffmpeg = import_module("imageio_ffmpeg")
    except ImportError as error:
        raise ImportError(
            "writing .mp4 needs the extra `video`: pip install 'prefgym[video]' (or write .gif or .webp)"
        ) from error
    height, width = frames.shape[1:3]
    even = np.pad(
        frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge"
    )  # H.264 halves its colour planes
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{even.shape[2]}x{even.shape[1]}", "-r", str(fps), "-i", "-"]
    wanted = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *given, *wanted, str(path)]
    done = subprocess.run(command, input=even.tobytes(), capture_output=True)
    if done.returncode:
        raise OSError(f"{path} could not be written: {done.stderr.decode(errors='replace').strip()}")


WRITERS: dict[str, Callable[[Path, np.ndarray, float], None]] = {
    ".gif": _write_gif,
    ".webp": _write_webp,
    ".mp4": _write_mp4,
}


def _shared_palette(frames: np.ndarray) -> Image.Image:
    """One palette for all frames, from up to eight of them: small files, and colours that do not flicker.

    A colour weighs as the root of its count, so that the sky does not take the robot's and the letters' shades.
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, 8).round().astype(int))]
    packed = chosen.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, counts = np.unique(packed, return_counts=True)
    weighed = np.repeat(colours, np.ceil(np.sqrt(counts)).astype(int))
    shades = np.stack([weighed >> 16, weighed >> 8 & 255, weighed & 255], axis=-1).astype(np.uint8)
    return Image.fromarray(shades[None]).quantize(COLOURS, method=Image.Quantize.MEDIANCUT)


def _durations(count: int, fps: float, unit: int) -> list[int]:
    """Milliseconds of each frame, multiples of unit, such that rounding never adds up."""
    ends = np.round(np.arange(1, count + 1) * 1000 / fps / unit).astype(int) * unit
    return [int(duration) for duration in np.diff(ends, prepend=0)]


def _bar(label: str, width: int, chosen: bool) -> np.ndarray:
    """A label [BAR, width, 3], white on the accent colour for the chosen clip."""
    back: Colour = (27, 138, 140) if chosen else (255, 255, 255)
    surface = pygame.Surface((width, BAR), depth=32)
    surface.fill(back)
    text = ink.Lettering().render(label, 13, (255, 255, 255) if chosen else (43, 48, 66), bold=chosen)
    surface.blit(text, ((width - text.get_width()) // 2, (BAR - text.get_height()) // 2))
    return np.ascontiguousarray(pygame.surfarray.pixels3d(surface).swapaxes(0, 1))


def _between(values: np.ndarray, place: float) -> np.ndarray:
    """values [T, ...] at a fractional index."""
    before = min(int(place), len(values) - 1)
    after = min(before + 1, len(values) - 1)
    return values[before] + (place - before) * (values[after] - values[before])


def _poses(qpos: np.ndarray) -> np.ndarray:
    poses = np.asarray(qpos, dtype=np.float64)
    if poses.ndim != 2 or len(poses) == 0:
        raise ValueError(f"`qpos` must be poses [T, nq] with T at least 1, got shape {poses.shape}")
    return poses


def _frames(frames: np.ndarray) -> np.ndarray:
    array = np.asarray(frames)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(f"`frames` must be uint8 [F, H, W, 3] with F at least 1, got {array.dtype} {array.shape}")
    return array


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"`{name}` must be positive, got {number}")


def _lengths(length: int, **rows: Sequence | np.ndarray | None) -> None:
    for name, row in rows.items():
        if row is not None and len(row) != length:
            raise ValueError(f"`{name}` must have one entry per pose ({length}), got {len(row)}")
