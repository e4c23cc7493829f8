import math

import pytest

from prefgym.registry import UnknownNameError
from prefgym.schedules import constant, decaying, front_loaded, schedules


@pytest.mark.parametrize(("schedule", "half"), [(constant, 0.5), (front_loaded, math.sqrt(0.5))])
def test_shares_at_the_middle(schedule, half):
    assert schedule(0.5, 1e6) == pytest.approx(half)


def test_decaying_is_the_integral_of_the_published_rate():
    # Of 2e6 steps: the integral of 2e6 / (T + 2e6) up to T is 2e6 ln(1 + T / 2e6), so ln(1.5) / ln(2) at half time.
    assert decaying(0.5, 2e6) == pytest.approx(0.5849625)


def test_decaying_is_almost_constant_in_a_short_run_and_steep_in_a_long_one():
    assert decaying(0.5, 1e3) == pytest.approx(0.5, abs=1e-3)
    assert decaying(0.5, 1e9) > 0.85


def test_decaying_over_no_steps_is_constant():
    assert decaying(0.25, 0) == 0.25


@pytest.mark.parametrize("name", schedules)
def test_every_schedule_rises_from_nothing_to_all(name):
    shares = [schedules[name](step / 20, 5e5) for step in range(21)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, pytest.approx(1))


@pytest.mark.parametrize("name", schedules)
@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan])
def test_progress_out_of_range_is_refused(name, progress):
    with pytest.raises(ValueError, match=r"`progress` must be in \[0, 1\], got"):
        schedules[name](progress, 1e6)


def test_unknown_names_get_a_hint():
    with pytest.raises(UnknownNameError, match="Did you mean 'decaying'"):
        schedules["decayng"]
