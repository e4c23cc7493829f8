"""Clips: as many pictures as the time asks for, and files that say the same when they are read back."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from prefgym.envs.clips import clip_frames, filmstrip, side_by_side, write_animation


class Stick:
    """One capsule of 0.8 m: qpos = (x, z of its middle, angle)."""

    radii = np.array([0.1])
    names = ("torso",)

    def capsules(self, qpos):
        half = 0.4 * np.stack([-np.sin(qpos[..., 2]), np.cos(qpos[..., 2])], axis=-1)
        return np.stack([qpos[..., :2] - half, qpos[..., :2] + half], axis=-2)[..., None, :, :]


@pytest.fixture(scope="module")
def flip():
    """[101, 3] two seconds of a turn in the air, at 50 poses per second."""
    time = np.linspace(0, 2, 101)
    return np.column_stack([0.4 * time, 1 + np.sin(np.pi * time / 2), np.pi * time])


@pytest.fixture(scope="module")
def frames(flip):
    return clip_frames(Stick(), flip, fps=25, size=(160, 120))


def read(path):
    """Frames, seconds and loops of an animation."""
    with Image.open(path) as image:
        durations = []
        pictures = []
        for index in range(image.n_frames):
            image.seek(index)
            pictures.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        return np.stack(pictures), sum(durations) / 1000, image.info["loop"]


@pytest.mark.parametrize(
    ("fps", "speed", "count"), [(25, 1, 51), (50, 1, 101), (25, 0.5, 101), (25, 2, 26), (10, 1, 21), (30, 1, 61)]
)
def test_a_clip_has_as_many_pictures_as_its_time_asks_for(flip, fps, speed, count):
    assert clip_frames(Stick(), flip, fps, speed, size=(48, 36)).shape == (count, 36, 48, 3)


def test_every_pose_of_a_clip_is_where_the_painter_puts_it(flip, frames):
    again = clip_frames(Stick(), flip, fps=25, size=(160, 120))
    assert (again == frames).all()
    assert len({frame.tobytes() for frame in frames}) == len(frames)


def test_slow_motion_shows_the_poses_in_between():
    rise = np.array([[0.0, 0.6, 0.0], [0.0, 1.6, 0.0]])
    slow = clip_frames(Stick(), rise, fps=50, speed=0.25, size=(160, 120), clock=False)
    red = (slow[..., 0].astype(int) - slow[..., 2] > 80) & (slow[..., 0] > 190)
    tops = [np.argmax(picture.any(axis=1)) for picture in red]
    assert len(tops) == 5
    assert np.diff(tops) == pytest.approx(np.full(4, -0.25 * 120 / 2.6), abs=2)


def test_counters_and_captions_change_the_pictures(flip, frames):
    count = len(flip)
    shown = clip_frames(
        Stick(),
        flip,
        size=(160, 120),
        revolutions=np.linspace(0, 1, count),
        clean_flips=np.arange(count) > 90,
        captions=["going"] * count,
    )
    assert shown.shape == frames.shape
    assert (shown != frames).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
@pytest.mark.parametrize("fps", [25, 30, 50])
def test_a_file_has_the_frames_and_the_duration(tmp_path, frames, suffix, fps):
    path = write_animation(tmp_path / f"clip{suffix}", frames, fps)
    pictures, seconds, loop = read(path)
    assert pictures.shape == frames.shape
    assert seconds == pytest.approx(len(frames) / fps, abs=0.006)
    assert loop == 0
    assert np.abs(pictures.astype(int) - frames).mean() < 4


def test_a_still_moment_keeps_its_time(tmp_path, frames):
    still = np.repeat(frames[:2], 10, axis=0)
    assert read(write_animation(tmp_path / "still.gif", still, 25))[1] == pytest.approx(0.8)


def test_four_seconds_of_gif_are_small(tmp_path, flip):
    path = write_animation(tmp_path / "small.gif", clip_frames(Stick(), np.vstack([flip, flip])[:200], 25))
    assert path.stat().st_size < 600_000


def test_mp4_reads_back_with_odd_sizes_made_even(tmp_path, frames):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    path = write_animation(tmp_path / "clip.mp4", frames[:, :-1, :-1], 25)
    command = [ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"160x120" in done.stderr
    assert b"25 fps" in done.stderr
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(-1, 120, 160, 3)
    assert len(pictures) == len(frames)
    assert np.abs(pictures[10].astype(int) - frames[10]).mean() < 6


@pytest.mark.parametrize("name", ["clip.gif", "clip.webp", "clip.mp4"])
def test_a_folder_that_is_not_there_is_an_error(tmp_path, frames, name):
    if name == "clip.mp4":
        pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    with pytest.raises(OSError, match=r"No such file"):
        write_animation(tmp_path / "missing" / name, frames)


def test_mp4_without_the_extra_names_it(tmp_path, frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"needs the extra `video`: pip install 'prefgym\[video\]'"):
        write_animation(tmp_path / "clip.mp4", frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "hint"), [("clip.giff", "'.gif'"), ("clip.web", "'.webp'"), ("clip.mp3", "'.mp4'")])
def test_an_unknown_suffix_gets_a_suggestion(tmp_path, frames, name, hint):
    with pytest.raises(ValueError, match=f"Did you mean {hint}.* Known: .gif, .webp, .mp4"):
        write_animation(tmp_path / name, frames)
    with pytest.raises(ValueError, match=r"Unknown kind of animation '' \(clip\)\. Known"):
        write_animation(tmp_path / "clip", frames)


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_an_impossible_pace_is_refused(tmp_path, frames, flip, fps):
    with pytest.raises(ValueError, match="`fps` must be positive, got"):
        write_animation(tmp_path / "clip.gif", frames, fps)
    with pytest.raises(ValueError, match="`speed` must be positive, got"):
        clip_frames(Stick(), flip, speed=fps)


def test_a_gif_too_fast_for_viewers_is_refused(tmp_path, frames):
    with pytest.raises(ValueError, match=r"at most 50 for \.gif, got 60"):
        write_animation(tmp_path / "clip.gif", frames, 60)


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)]
)
def test_what_are_no_frames_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="`frames` must be uint8"):
        write_animation(tmp_path / "clip.gif", bad)


def test_rows_of_another_length_are_refused(flip):
    with pytest.raises(ValueError, match=r"`revolutions` must have one entry per pose \(101\), got 3"):
        clip_frames(Stick(), flip, revolutions=np.zeros(3))
    with pytest.raises(ValueError, match=r"`qpos` must be poses \[T, nq\] with T at least 1, got shape \(0, 3\)"):
        clip_frames(Stick(), flip[:0])


def test_a_filmstrip_shows_first_and_last_pose_side_by_side(flip):
    strip = filmstrip(Stick(), flip, 4, size=(60, 80), gap=2)
    assert strip.shape == (80, 4 * 60 + 3 * 2, 3)
    assert (strip[:, 60:62] == 255).all()
    assert (strip[:, :60] == filmstrip(Stick(), flip, 1, size=(60, 80))).all()
    assert (strip[:, -60:] != strip[:, :60]).any()
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        filmstrip(Stick(), flip, 0)


def test_clips_side_by_side_are_the_clips_under_their_labels(frames):
    short = frames[:20]
    both = side_by_side(frames, short, ("left", "right"), chosen=1, gap=6)
    assert both.shape == (len(frames), 120 + 26, 2 * 160 + 6, 3)
    assert (both[:, 26:, :160] == frames).all()
    assert (both[:20, 26:, 166:] == short).all()
    assert (both[20:, 26:, 166:] == short[-1]).all()  # the shorter one rests
    assert (both[:, 2, 2] == 255).all()
    assert (both[:, 2, 168] == [27, 138, 140]).all()  # the chosen one is marked
    with pytest.raises(ValueError, match="of one height, got 120 and 100"):
        side_by_side(frames, frames[:, :100])
