import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefgym.segments import Segment, cut


def make(length=5, seed=0, shown=4, **options):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(length, width)) for width in (3, 2, shown)]
    return Segment(*arrays, rewards=rng.normal(size=length), **options)


def test_dtypes_are_coerced_and_the_return_is_the_sum():
    segment = Segment([[1], [2]], [[0], [1]], np.zeros((2, 0)), [0.5, -2], step=np.int64(7))
    assert segment.length == 2
    assert segment.true_return == -1.5
    assert type(segment.step) is int
    assert {array.dtype for array in (segment.observations, segment.actions, segment.shown)} == {np.dtype("f4")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": np.zeros(5)}, r"`observations` must have shape \[T, O\], got \[5\]"),
        ({"rewards": np.zeros((5, 1))}, r"`rewards` must have shape \[T\], got \[5, 1\]"),
        ({"actions": np.zeros((4, 2))}, r"`actions` must have as many steps .* actions \[4, 2\]"),
        ({"rewards": [0, 0, np.nan, 0, 0]}, "`rewards` must be finite in float32, got nan"),
        ({"shown": np.full((5, 1), 1e39)}, "`shown` must be finite in float32, got inf"),
        ({"step": -1}, "`step` must be at least 0, got -1"),
        ({"env_id": None}, "`env_id` must be a string, got None"),
        ({"observations": np.zeros((5, 0))}, "at least 1 step and 1 number"),
        ({"observations": np.zeros((0, 3)), "actions": np.zeros((0, 2)), "shown": np.zeros((0, 0)), "rewards": []},
         "at least 1 step"),
    ],
)  # fmt: skip
def test_bad_contents_name_the_rule_and_the_value(change, message):
    good = {
        "observations": np.zeros((5, 3)),
        "actions": np.zeros((5, 2)),
        "shown": np.zeros((5, 0)),
        "rewards": [0] * 5,
    }
    with pytest.raises(ValueError, match=message):
        Segment(**{**good, **change})


def test_nothing_can_change_a_segment():
    rewards = np.ones(2, np.float32)
    segment = Segment([[1], [2]], [[0], [1]], np.zeros((2, 0)), rewards)
    rewards[0] = 100
    assert segment.true_return == 2
    with pytest.raises(ValueError, match="read-only"):
        segment.rewards[0] = 100


def test_equal_contents_have_equal_digests_and_any_change_another():
    base = make()
    arrays = {name: getattr(base, name) for name in ("observations", "actions", "shown", "rewards")}
    assert make().digest == base.digest
    assert len(base.digest) == 64
    changed = [Segment(**{**arrays, name: array + 1}) for name, array in arrays.items()]
    changed += [make(env_id="other"), make(step=1)]
    # The same numbers, divided differently between actions and shown, are another segment.
    changed.append(Segment(base.observations, base.shown, base.actions, base.rewards))
    assert len({segment.digest for segment in [base, *changed]}) == len(changed) + 1


@settings(deadline=None, derandomize=True)
@given(length=st.integers(1, 60), shown=st.integers(0, 5), step=st.integers(0, 2**60), env_id=st.text(max_size=20))
def test_bytes_round_trip_exactly(length, shown, step, env_id):
    segment = make(length, shown=shown, step=step, env_id=env_id)
    again = Segment.from_bytes(segment.to_bytes())
    assert again.digest == segment.digest
    np.testing.assert_array_equal(again.shown, segment.shown)
    assert (again.step, again.env_id, again.true_return) == (step, env_id, segment.true_return)


def test_bytes_are_reproducible_and_compact():
    time = np.linspace(0, 1, 50)[:, None]
    smooth = Segment(np.sin(time * np.arange(17)), time, np.cos(time * np.arange(6)), np.zeros(50))
    assert smooth.to_bytes() == smooth.to_bytes()
    assert len(smooth.to_bytes()) < 0.9 * 4 * 50 * (17 + 1 + 6 + 1)


@pytest.mark.parametrize("bad", [b"", b"text", make().to_bytes()[:300]])
def test_damaged_bytes_are_refused(bad):
    with pytest.raises(ValueError, match="damaged"):
        Segment.from_bytes(bad)


@pytest.mark.filterwarnings("ignore")  # zipfile warns about some of these before it fails
def test_no_flipped_byte_gives_other_contents():
    segment = make(3)
    data = bytearray(segment.to_bytes())
    for place in range(len(data)):
        data[place] ^= 0xFF
        with contextlib.suppress(ValueError):
            assert Segment.from_bytes(bytes(data)).digest == segment.digest
        data[place] ^= 0xFF


def test_a_newer_format_is_refused_by_name():
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(make().to_bytes())) as old, np.load(io.BytesIO(make().to_bytes())) as arrays:
        assert set(old.namelist()) == {"segment.npy"}
        newer = arrays["segment"].tobytes().replace(b'"format": 1', b'"format": 9')
        np.savez(data, segment=np.frombuffer(newer, np.uint8))
    with pytest.raises(ValueError, match="format must be 1, got 9"):
        Segment.from_bytes(data.getvalue())


def recording(total=20, episode=8):
    steps = np.arange(total, dtype=np.float32)
    return [steps[:, None], steps[:, None], steps[:, None], steps, np.arange(total) // episode]


def test_cut_takes_the_steps_asked_for_and_pins_nothing():
    arrays = recording()
    segment = cut(*arrays, start=8, length=8, env_id="prefgym/Backflip-v0", step=108)
    np.testing.assert_array_equal(segment.rewards, np.arange(8, 16))
    assert (segment.env_id, segment.step) == ("prefgym/Backflip-v0", 108)
    assert all(getattr(segment, name).base is None for name in ("observations", "actions", "shown", "rewards"))


@pytest.mark.parametrize(
    ("start", "length", "message"),
    [
        (4, 5, r"may not cross an episode's end: steps 4 to 9 lie in episodes \[0 1\]"),
        (16, 5, "steps 16 to 21 do not lie within the recording of 20 steps"),
        (-1, 3, "steps -1 to 2 do not lie"),
        (3, 0, "`length` must be at least 1, got 0"),
    ],
)
def test_cut_refuses(start, length, message):
    with pytest.raises(ValueError, match=message):
        cut(*recording(), start=start, length=length)
