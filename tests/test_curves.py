import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from prefgym.agents.curves import Curves, make_logger


def test_numbers_can_be_read_by_tensorboard(tmp_path):
    log = make_logger(tmp_path / "tensorboard")
    for step in (10, 20):
        log.record("train/loss", step / 100)
        log.record("train/words", "are left out")
        log.dump(step)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (10, pytest.approx(0.1)),
        (20, pytest.approx(0.2)),
    ]
    assert events.Tags()["scalars"] == ["train/loss"]


def test_a_resumed_run_hides_what_came_after_its_checkpoint(tmp_path):
    for since, steps in ((0, (10, 20, 30)), (20, (20, 30, 40))):
        curves = Curves(tmp_path, since)
        for step in steps:
            curves.write({"loss": since + step}, {"loss": ()}, step)
        curves.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(10, 10), (20, 40), (30, 50), (40, 60)]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    curves = Curves(tmp_path / "file" / "log")
    for step in range(3):
        curves.write({"loss": 1.0}, {"loss": ()}, step)
    curves.close()
    assert caplog.text.count("cannot be written any more") == 1
