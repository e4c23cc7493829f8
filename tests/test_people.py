"""Training with people: it asks no more than they can answer, waits for them, and loses none of their answers."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from prefgym.agents.control import PPOConfig
from prefgym.envs.bodies import Body
from prefgym.labelling.desk import Desk
from prefgym.live import Live
from prefgym.loop import LoopConfig
from prefgym.registry import UnknownNameError
from prefgym.rewards.ensemble import EnsembleConfig
from prefgym.runs import Run
from prefgym.scripts.course import Stopped
from prefgym.scripts.train_config import TrainConfig
from prefgym.scripts.training import Training
from prefgym.store import Store
from prefgym.teachers import make_teacher
from prefgym.teachers.human import HumanTeacher

LABELS, ALLOWANCE, ROLLOUT = 12, 256, 256
CONFIG = TrainConfig(
    teacher="human",
    query="disagreement",
    envs=16,
    num_threads=1,
    loop=LoopConfig(
        labels=LABELS, steps=6000, explore_steps=1600, segment_length=20, window=80, steps_per_label=ALLOWANCE
    ),
    ppo=PPOConfig(n_steps=16, batch_size=128, n_epochs=1, hidden=16),
    reward=EnsembleConfig(updates=5, hidden=16),
)


class Person:
    """Answers one query whenever training looks for answers, by what is hidden from people: the true return."""

    def __init__(self, training, most=LABELS):
        self.desk, self.training, self.most = Desk(training.store, second=0.0, repeat=0.0, seed=0), training, most
        self.given, self.open = [], []

    def __call__(self):
        self.open.append(self.training.store.counts()["open"])
        for ticket in self.desk.tickets("ann") if len(self.given) < self.most else []:
            choice = "left" if ticket.left.true_return > ticket.right.true_return else "right"
            self.given.append(self.desk.answer(ticket.token, choice, annotator="ann"))


@pytest.fixture
def training(tmp_path):
    made = Training.start(replace(CONFIG, out=tmp_path / "run"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run to which a person has given all answers, and the person."""
    with pytest.MonkeyPatch.context() as patch:
        made = Training.start(replace(CONFIG, out=tmp_path_factory.mktemp("done") / "run"))
        person = Person(made)
        patch.setattr("prefgym.scripts.pace.time.sleep", lambda seconds: person())
        made.train()
        yield made, person
        made.close()


@pytest.fixture
def looking(monkeypatch):
    """Calls what a test sets whenever training, while it waits, would sleep."""

    def look(function):
        monkeypatch.setattr("prefgym.scripts.pace.time.sleep", lambda seconds: function())

    return look


def test_every_answer_is_fitted_and_no_more_is_asked_than_wanted(done):
    training, person = done
    assert training.store.counts()["comparisons"] == len(person.given) == LABELS
    assert training.loop.asked == LABELS
    assert training.loop.fit_report["comparisons"] == LABELS
    assert max(person.open) == HumanTeacher(training.store).ahead
    assert training.loop.steps == 1600 + 17 * ROLLOUT


def test_training_waits_for_people_and_says_so(training, looking):
    person, seen = Person(training, most=3), []

    def look():
        person()
        seen.append((training.loop.steps - training.loop.explored, Live.read(training.run.folder).state))
        training.stop_requested = len(seen) > 20

    looking(look)
    with pytest.raises(Stopped):
        training.train()
    assert seen[0] == (0, "waiting")
    assert seen[-1] == (3 * ALLOWANCE, "waiting")
    assert Live.read(training.run.folder).state == "stopped"
    assert training.run.has_checkpoint


def test_with_little_training_for_an_answer_there_is_still_something_to_answer(tmp_path, looking):
    """All eight queries that are open allow less than one rollout: waiting would be for ever."""
    loop = replace(CONFIG.loop, steps_per_label=ROLLOUT // 16)
    made, looks = Training.start(replace(CONFIG, out=tmp_path / "run", loop=loop)), iter(range(500))
    person = Person(made)
    looking(lambda: (next(looks), person()))
    made.train()
    made.close()
    assert len(person.given) == LABELS


@pytest.mark.parametrize(("at_a_time", "meanwhile"), [(1, 8), (4, 0), (4, 8)])
def test_begun_again_it_asks_for_neither_fewer_nor_more(tmp_path, looking, at_a_time, meanwhile):
    """Killed before its first checkpoint, it meets answers at another pace, and asks in other sessions than before."""
    first, looks = Training.start(replace(CONFIG, out=tmp_path / "run")), iter(range(500))

    class KilledError(Exception):
        """In the place of kill -9."""

    def killed():
        if len(person.given) >= 4:
            raise KilledError
        for _ in range(at_a_time):
            person()

    person = Person(first)
    looking(killed)
    with pytest.raises(KilledError):
        first.train()
    for _ in range(meanwhile):
        person()
    first.close()
    assert not first.run.has_checkpoint
    again = Training.resume(tmp_path / "run")
    rest = Person(again)
    looking(lambda: (next(looks), rest()))
    again.train()
    assert sum(again.store.asked().values()) == again.loop.asked == LABELS
    assert len(person.given) + len(rest.given) == again.loop.fit_report["comparisons"] == LABELS
    again.close()


def test_training_waits_while_it_is_paused(training, looking):
    pause, person, held = training.run.folder / "pause", Person(training), []
    pause.touch()

    def look():
        person()
        if pause.exists():
            held.append(training.loop.rollouts)
            if len(held) == 30:
                pause.unlink()

    looking(look)
    training.train()
    assert held == [0] * 30
    assert training.finished


def test_training_ends_when_the_front_end_that_started_it_has_gone(training, looking, monkeypatch, caplog):
    looking(lambda: None)
    training.pace._parent = os.getppid() + 1
    with pytest.raises(Stopped):
        training.train()
    assert "The front end has gone" in caplog.text
    assert training.run.has_checkpoint


def test_what_was_taken_back_is_not_fitted(training, looking):
    person = Person(training)

    def look():
        if len(person.given) == LABELS // 2 and not undone:
            undone.append(person.desk.undo("ann"))
            person.given.pop()
        person()

    undone = []
    looking(look)
    training.train()
    assert training.store.counts()["history"] == LABELS + 2
    assert training.loop.fit_report["comparisons"] == LABELS


def test_a_team_answers_in_a_database_of_its_own(tmp_path, postgres, looking):
    team = Training.start(replace(CONFIG, out=tmp_path / "run", store=postgres()))
    looking(Person(team))
    team.train()
    team.close()
    assert not (tmp_path / "run" / "feedback.db").exists()
    with Store(Run.open(tmp_path / "run").database, create=False) as store:
        assert store.counts()["comparisons"] == LABELS


def test_front_ends_see_the_policy_as_it_is_now(done):
    live = Live.read(done[0].run.folder)
    assert (live.state, live.labels, live.total_steps) == ("finished", LABELS, 6000)
    assert live.qpos.shape == (200, 6)


def test_clips_that_look_the_same_are_not_asked_about(done):
    looks = Body.of("prefgym/Backflip-v0").looks
    for _, said in done[0].store.comparisons():
        assert looks(said.query.first.shown[None], said.query.second.shown[None])[0] >= 1


def test_the_difference_between_clips_is_in_tenths_of_a_metre():
    body = Body.of("prefgym/Backflip-v0")
    still = np.zeros((1, 5, 6))
    assert body.looks(still, still) == 0
    moved, raised, late = still.copy(), still.copy(), still.copy()
    moved[..., 0] = 3.0  # the camera follows
    raised[..., 1] = 0.2
    late[:, :1, 1] = 0.5  # in one step of five
    assert body.looks(still, moved) == pytest.approx(0)
    assert body.looks(still, raised) == pytest.approx(2.0)
    assert body.looks(still, late) == pytest.approx(1.0)


def test_people_are_a_teacher_by_name(tmp_path):
    with Store(tmp_path / "feedback.db") as store:
        assert isinstance(make_teacher("human", store), HumanTeacher)
        with pytest.raises(UnknownNameError, match="Did you mean 'human'"):
            make_teacher("humn", store)
        with pytest.raises(ValueError, match="`ahead` must be at least 1, got 0"):
            HumanTeacher(store, ahead=0)


def test_a_person_gives_each_answer_once(done):
    teacher = HumanTeacher(done[0].store)
    assert len(teacher.collect()) == LABELS
    assert teacher.collect() == []


def test_a_damaged_live_file_is_as_good_as_none(tmp_path):
    assert Live.read(tmp_path) is None
    Live("training", 1, 2, 3).write(tmp_path)
    whole = (tmp_path / "live.npz").read_bytes()
    (tmp_path / "live.npz").write_bytes(whole[: len(whole) // 2])
    assert Live.read(tmp_path) is None
    with pytest.raises(ValueError, match="`state` must be one of exploring"):
        Live("dreaming", 1, 2, 3)


KILLS = int(os.environ.get("PREFGYM_KILLS", 8))
"""How often training is killed below."""


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forked: torch is imported once for all lives
def test_killed_while_people_answer_training_goes_on_with_all_of_it(tmp_path):
    """kill -9 of training at random moments while somebody answers: every acknowledged answer is there and is used."""
    folder, rng, given = tmp_path / "run", np.random.default_rng(0), []
    labels = 3 * KILLS + 6
    config = replace(CONFIG, out=folder, loop=replace(CONFIG.loop, labels=labels, steps=2000 + labels * ALLOWANCE))
    for life in range(KILLS):
        child = in_child(train, config)
        given += answers(folder, 3)
        time.sleep(rng.uniform(0, 0.3))  # the moment is random: nothing is waited for
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, f"life {life} ended by itself"
    child = in_child(train, config)
    given += answers(folder, labels - len(given))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with Store(folder / "feedback.db", create=False) as store:
        assert given == store.current_ids()
    assert Live.read(folder).state == "finished"
    row = Run.open(folder).metrics()[-1]
    assert row["labels"] == labels


def train(config):
    begun = (config.out / "config.json").exists()
    part = Training.resume(config.out) if begun else Training.start(config)
    part.train()
    assert part.loop.fit_report["comparisons"] == config.loop.labels


def in_child(function, *arguments):
    """The process id of a child that does it, and exits with 0 or 1."""
    number = os.fork()
    if not number:
        code = 1
        try:
            function(*arguments)
            code = 0
        finally:
            os._exit(code)
    return number


def answers(folder, count):
    """The ids of so many answers, given as soon as there is something to answer."""
    ids, until = [], time.monotonic() + 60
    while len(ids) < count and time.monotonic() < until:
        time.sleep(0.01)  # between two looks
        if (folder / "feedback.db").exists():
            with Store(folder / "feedback.db") as store:
                desk = Desk(store, second=0.0, repeat=0.0)
                ids += [desk.answer(ticket.token, "left", annotator="ann") for ticket in desk.tickets("ann")]
    return ids
