"""The report of a run: whole, self-contained, and honest about runs that are not."""

import base64
import json
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

from prefgym.agents.control import PPOConfig
from prefgym.comparisons import Answer, Comparison, Query
from prefgym.envs.bodies import Body
from prefgym.envs.clips import write_animation
from prefgym.pages.markup import duration, percent, signed
from prefgym.plan import LoopConfig
from prefgym.rewards.ensemble import EnsembleConfig
from prefgym.runs import Run, RunError
from prefgym.scripts import main
from prefgym.scripts.options import to_json
from prefgym.scripts.report import pictures, write_report
from prefgym.scripts.report.plots import Line, calibration, curves, short
from prefgym.scripts.report.settings import reproduction
from prefgym.scripts.report.summary import Summary, most_surprising, surprise
from prefgym.scripts.report.teacher import wilson
from prefgym.scripts.train_config import TrainConfig
from prefgym.segments import Segment
from prefgym.store import Store

ENV = "prefgym/Backflip-v0"
VOID = {"meta", "link", "img", "source", "path", "use", "rect"}
SECTIONS = ["What it learned", "How it got there", "The reward model", "What surprised it most", "The teacher"]


def somersault(number=0, length=12):
    """Poses [T, 6] of a body that turns over backward."""
    poses = np.zeros((length, 6))
    poses[:, 1] = 0.3
    poses[:, 2] = -np.linspace(0, 2 + number / 10, length)
    return poses


def segment(number, shown=None, env_id=ENV):
    rng = np.random.default_rng(number)
    poses = somersault(number) if shown is None else shown
    return Segment(rng.normal(size=(12, 4)), rng.normal(size=(12, 3)), poses, rng.normal(size=12), env_id, 100 * number)


def comparison(number, answer=None, prediction=None, **options):
    key, shown, env_id = (
        options.pop(name, usual) for name, usual in (("key", f"0/{number}"), ("shown", None), ("env_id", ENV))
    )
    pair = [segment(2 * number + side, shown, env_id) for side in (0, 1)]
    said = answer or (Answer.FIRST, Answer.SECOND)[number % 2]
    return Comparison(Query(*pair, key, "on-policy", prediction), said, **options)


def row(session, **numbers):
    rising = 1 - 0.8**session
    usual = {"session": session, "steps": 1000 * session, "labels": 10 * session, "seconds": 2.5 * session}
    usual |= {"steps_per_second": 400.0, "fit_seconds": 0.1, "clean_backflips": 4 * rising, "revolutions": 5 * rising}
    usual |= {"true_return": 3 * rising, "learned_return": rising, "training_loss": 0.6 - 0.3 * rising}
    usual |= {"validation_loss": 0.65 - 0.2 * rising, "training_accuracy": 0.9, "validation_accuracy": 0.8}
    usual |= {"new_accuracy": 0.7, "reward_correlation": rising, "weight_decay": 0.01, "teacher": "oracle"}
    return usual | numbers


def figures(mean):
    return {"mean": mean, "std": 0.5, "iqm": mean + 0.1}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(pictures, "PANEL", (32, 40))
    monkeypatch.setattr(pictures, "CLIP", (40, 32))
    monkeypatch.setattr(pictures, "PANELS", 3)


@pytest.fixture
def make_run(tmp_path):
    """Makes run folders as training leaves them behind."""

    def make(rows=None, comparisons=None, stages=(0, 2000), finished=True, config=None):
        config = config or TrainConfig(seed=3, loop=LoopConfig(labels=50, steps=5000))
        run = Run.create(tmp_path / "runs" / "one", to_json(config))
        for one in [row(number) for number in range(1, 6)] if rows is None else rows:
            run.append(one)
        with Store(run.database) as store:
            usual = [comparison(number, prediction=0.02 + 0.04 * number) for number in range(24)]
            store.record(usual if comparisons is None else comparisons)
        run.stages.mkdir()
        for steps in stages:
            np.savez(
                run.stages / f"{steps:04d}.npz", qpos=somersault(length=200), clean_backflips=steps // 1000, steps=steps
            )
        if finished:
            done = {name: figures(4.75) for name in ("clean_backflips", "revolutions", "true_return")}
            (run.folder / "evaluation.json").write_text(json.dumps({**done, "episodes": 32, "seed": 1000}))
            write_animation(run.folder / "policy.webp", np.full((5, 30, 40, 3), 200, np.uint8))
        return run

    return make


class Page(HTMLParser):
    """What a browser would find; raises for tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.open, self.images, self.words, self.references = [], [], [], []
        self.source = Path(path).read_text()
        self.feed(self.source)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attributes)
        self.references += [value for name, value in attributes if name in ("src", "href", "srcset", "xlink:href")]
        if tag == "img":
            assert found["alt"]
            self.images.append(found["src"])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def test_a_finished_run_has_every_part(make_run):
    path = write_report(make_run())
    page = Page(path)
    assert path.name == "report.html"
    assert page.text.startswith("4.8 clean backflips in 4 seconds, from 50 comparisons · prefgym")
    assert all(title in page.text for title in SECTIONS)
    assert "4.75 clean backflips" not in page.text  # the figure comes after its label, for those who listen
    assert "clean backflips ± 0.50 over 32 episodes, IQM 4.85 4.75" in page.text
    assert "not finished" not in page.text
    assert page.source.count("<svg") == 9
    assert len(page.images) == 1 + 2 + 6


def test_the_page_needs_nothing_beside_it(make_run):
    page = Page(write_report(make_run()))
    assert len(page.source) < 4_000_000
    assert "<script" not in page.source
    assert "@import" not in page.source
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page.source)
    assert {one.partition(":")[0] for one in page.references if not one.startswith("#")} == {"data"}
    for image in page.images:
        data = base64.b64decode(image.partition("base64,")[2], validate=True)
        Image.open(BytesIO(data)).verify()


def test_the_command_writes_it_and_says_where(make_run, capsys):
    run = make_run(finished=False, stages=(), comparisons=[])
    assert main(["report", str(run.folder)]) == 0
    assert capsys.readouterr().out == f"{run.folder / 'report.html'}\n"
    assert main(["report", str(run.folder.parent)]) == 2
    assert "is not a run" in capsys.readouterr().err


def test_a_report_is_the_same_when_written_twice(make_run):
    run = make_run()
    first = write_report(run).read_text()
    assert write_report(run.folder).read_text() == first


@pytest.mark.parametrize(
    ("options", "remark", "headline"),
    [
        (
            {"finished": False},
            "not finished: it was interrupted, or goes on at 5,000 of 5,000 steps",
            "2.7 clean backflips",
        ),
        ({"comparisons": []}, "Nobody was asked anything", "4.8 clean backflips"),
        ({"rows": [row(1)]}, "Only one session has ended, so curves are single dots", "from 10 comparisons"),
        ({"rows": []}, "No session has ended yet, so there is nothing to draw", "without comparisons"),
        ({"rows": [], "comparisons": [], "stages": (), "finished": False}, "No session has ended", f"A run of {ENV}"),
        (
            {
                "rows": [
                    row(1, training_loss=math.nan, reward_correlation=math.nan),
                    row(2, training_loss="", reward_correlation=""),
                ]
            },
            "Not one number was recorded for training_loss, reward_correlation",
            "4.8 clean",
        ),
        ({"stages": ()}, "", "4.8 clean backflips an episode"),
    ],
    ids=["interrupted", "no-comparisons", "one-session", "no-session", "nothing", "nan", "no-stages"],
)
def test_a_run_that_lacks_something_has_a_report_that_says_so(make_run, options, remark, headline):
    page = Page(write_report(make_run(**options)))
    assert remark in page.text
    assert headline in page.text
    assert "nan" not in page.text.lower()


def test_figures_of_an_interrupted_run_are_those_of_training(make_run):
    page = Page(write_report(make_run(finished=False)))
    assert "clean backflips while training 2.69" in page.text
    assert "prefgym backflip --resume" in page.text


@pytest.mark.parametrize(
    ("name", "data", "remark"),
    [
        (
            "feedback.db",
            b"no database, but long enough to be looked at as if it were one" * 20,
            "comparisons cannot be read",
        ),
        ("stages/0000.npz", b"PK\x03\x04 cut off", "The stage 0000.npz cannot be read"),
        ("policy.webp", b"RIFF cut off", "The animation policy.webp cannot be read"),
        ("evaluation.json", b'{"clean_backflips": {"mea', "evaluation.json cannot be read"),
        ("metrics.csv", b"\xff\xfe\xfd", "metrics.csv cannot be read"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(make_run, name, data, remark):
    run = make_run()
    (run.folder / name).write_bytes(data)
    page = Page(write_report(run))
    assert remark in page.text
    assert "How to make it again" in page.text


def test_a_row_that_was_cut_off_by_a_kill_is_read_as_far_as_it_goes(make_run):
    run = make_run()
    text = run.metrics_path.read_text()
    run.metrics_path.write_text(text + "6,6000,6")
    summary = Summary.read(run.folder)
    assert (summary.last("steps"), summary.last("clean_backflips")) == (6000, row(5)["clean_backflips"])
    write_report(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is not a run: it has no config\.json"):
        write_report(tmp_path)


def test_an_old_report_outlives_a_failed_one(make_run, monkeypatch):
    run = make_run(stages=(), comparisons=[])
    old = write_report(run).read_text()

    def fail(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            write_report(run)
    assert (run.folder / "report.html").read_text() == old
    assert not list(run.folder.glob("*.new"))


def test_what_people_typed_is_never_markup(make_run):
    said = [comparison(number, prediction=0.9, annotator="<script>alert(1)</script>") for number in range(3)]
    page = Page(write_report(make_run(comparisons=said)))
    assert "<script" not in page.source
    assert "The <script>alert(1)</script> chose the second" in page.text


def test_clips_that_cannot_be_drawn_leave_their_words(make_run):
    unknown = [
        comparison(number, prediction=0.9, shown=np.zeros((12, 0)), env_id="prefgym/Nowhere-v0") for number in (1, 3)
    ]
    page = Page(write_report(make_run(comparisons=unknown)))
    assert page.text.count("The oracle chose the second: a surprise of 2.3 nats.") == 2
    assert len(page.images) == 1


def test_labels_of_an_earlier_run_are_told_apart(make_run):
    said = [comparison(number, prediction=0.5) for number in range(4)] + [comparison(9, key="")]
    summary = Summary.read(make_run(comparisons=said).folder)
    assert (len(summary.comparisons), summary.reused) == (4, 1)


def test_the_command_makes_the_same_run_again(make_run):
    config = TrainConfig(
        teacher="noisy", seed=7, envs=32, loop=LoopConfig(labels=90, steps=200_000), ppo=PPOConfig(ent_coef=0.01)
    )
    config = replace(config, reward=EnsembleConfig(warm=not EnsembleConfig().warm, members=5), out=Path("elsewhere"))
    command = shlex.split(reproduction(Summary.read(make_run(config=config).folder)))
    assert command[:2] == ["prefgym", "backflip"]
    assert tyro.cli(TrainConfig, args=command[2:]) == replace(config, out=None)


def test_what_is_not_out_of_the_ordinary_is_left_out_of_the_command(make_run):
    usual = reproduction(Summary.read(make_run(config=TrainConfig()).folder))
    assert sorted(usual.split(" --")) == ["labels 900", "prefgym backflip", "seed 0", "steps 1800000"]


@pytest.mark.parametrize(
    ("inputs", "told"), [((), False), (("torso_height", "due"), True)], ids=["all that is observed", "some of it"]
)
def test_the_page_says_what_the_robot_was_told_beside_the_answers(make_run, inputs, told):
    page = Page(write_report(make_run(config=TrainConfig(reward=EnsembleConfig(inputs=inputs)))))
    assert ("What to look at was told, too: torso height, due." in page.text) == told


# The parts.


def test_surprise_is_the_divergence_of_the_prediction_from_the_answer():
    assert surprise(comparison(0, Answer.FIRST, 0.25)) == pytest.approx(math.log(4))
    assert surprise(comparison(0, Answer.SECOND, 0.25)) == pytest.approx(math.log(4 / 3))
    assert surprise(comparison(0, Answer.TIE, 0.5)) == 0
    assert surprise(comparison(0, Answer.TIE, 0.9)) == pytest.approx(-0.5 * math.log(4 * 0.9 * 0.1))
    assert surprise(comparison(0, Answer.FIRST, 0.0)) == pytest.approx(6 * math.log(10))
    assert math.isnan(surprise(comparison(0, Answer.SKIP, 0.5)))
    assert math.isnan(surprise(comparison(0, Answer.FIRST)))


def test_the_most_surprising_come_first_and_no_segment_twice():
    said = [comparison(number, Answer.FIRST, prediction) for number, prediction in enumerate((0.5, 0.1, 0.99, 0.3))]
    again = Comparison(replace(said[1].query, first=segment(99), key="1/0"), Answer.FIRST)
    found = most_surprising([*said, again, comparison(7, Answer.SKIP, 0.1), comparison(8)], 2)
    assert [one.query.prediction for one in found] == [0.1, 0.3]
    assert most_surprising([said[2]]) == []


def test_wilsons_interval_is_that_of_the_textbook():
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answer.FIRST] * 4 + [Answer.SECOND] * 4, "50 % went to the first clip"),
        ([Answer.FIRST] * 12, "a bias to the first"),
        ([Answer.SECOND] * 12, "a bias to the second"),
        ([Answer.TIE, Answer.SKIP], "No answer favoured a side."),
    ],
)
def test_a_teacher_that_favours_a_side_is_found_out(make_run, answers, words):
    said = [comparison(number, answer) for number, answer in enumerate(answers)]
    text = Page(write_report(make_run(comparisons=said, stages=()))).text
    assert words in text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_curve_bridges_what_is_missing_and_follows_the_page():
    svg = curves([0, 1, 2, 3], [Line("one", [0.1, math.nan, 0.3, 0.4])], "steps", low=0, high=1, chance=0.5)
    assert "var(--accent)" in svg
    assert not re.search(r"#0[1-7]0[1-7]0[1-7]", svg)
    assert not re.search(r'<svg[^>]* (width|height)="', svg)
    assert "nan" not in svg
    lone = curves([5], [Line("one", [0.1])], "steps")
    assert "<use" in lone[lone.index("steps") :]


def test_calibration_of_perfect_predictions_lies_on_the_diagonal():
    svg = calibration([0.05, 0.95, 0.95], [0.05, 0.95, 0.95], bins=10)
    assert svg.count("var(--accent)") >= 2


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0"), (999, "999"), (2000, "2k"), (35_328, "35.3k"), (1_200_000, "1.2M"), (0.25, "0.25")]
)
def test_short_numbers(number, words):
    assert short(number) == words


def test_numbers_in_words():
    assert [percent(share) for share in (0.5, 0.123456, 1e-6, 1 - 1e-6, 1)] == [
        f"{number}\N{NO-BREAK SPACE}%" for number in ("50", "12.3", "<0.1", ">99.9", "100")
    ]
    assert [signed(number) for number in (-0.001, -1.5, 2)] == ["0.00", "−1.50", "2.00"]
    times = {3.2: "3 s", 99.7: "1:40 min", 185: "3:05 min", 7322: "2:02 h", math.nan: "unknown"}
    assert [duration(seconds) for seconds in times] == list(times.values())


def test_only_bodies_that_can_be_drawn_are_found():
    body = Body.of(ENV)
    assert body is not None
    assert (body.width, body.rate) == (6, 50)
    assert body.draws(somersault())
    assert not body.draws(np.zeros((5, 3)))
    assert Body.of("prefgym/Nowhere-v0") is None
    assert Body.of("CartPole-v1") is None
