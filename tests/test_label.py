"""`prefgym label`: which store, which front end, and what it says in the end."""

import json
import os
import pty
import select
import subprocess
import sys

import numpy as np
import pytest

from prefgym.comparisons import Query
from prefgym.labelling import terminal, window
from prefgym.labelling.desk import Desk
from prefgym.labelling.terminal_io import TerminalError
from prefgym.runs import Run, RunError
from prefgym.scripts import label as verb
from prefgym.scripts.label import figures, find, main
from prefgym.segments import Segment
from prefgym.store import Store, StoreError


def query(number):
    first, second = (Segment(*np.full((3, 4, 2), 2 * number + side), np.zeros(4), env_id="env") for side in (0, 1))
    return Query(first, second)


@pytest.fixture
def database(tmp_path):
    """A run's store with nine queries."""
    Run.create(tmp_path / "run", {})
    with Store(tmp_path / "run" / "feedback.db") as store:
        store.ask(query(n) for n in range(9))
    return tmp_path / "run" / "feedback.db"


@pytest.fixture
def used(monkeypatch):
    """Front ends that answer three queries themselves, and what they were called with."""
    calls = []

    def front_end(name):
        def label(store, *, annotator="ann", **options):
            calls.append((name, annotator, options))
            desk = Desk(store, second=0.0, repeat=0.0, seed=0)
            for choice in ("left", "right", "left"):
                desk.answer(desk.tickets(annotator)[0].token, choice, annotator=annotator, seconds=1.5)

        return label

    monkeypatch.setattr(window, "label", front_end("window"))
    monkeypatch.setattr(terminal, "label", front_end("terminal"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_store_is_named_by_file_folder_or_url(database):
    folder = database.parent
    assert find(str(folder)) == (database, folder)
    assert find(str(database)) == (database, folder)
    assert find("postgresql+psycopg://me@host/name") == ("postgresql+psycopg://me@host/name", None)
    other = database.rename(folder.parent / "shared.db")
    assert find(str(other)) == (other, None)
    with pytest.raises(RunError, match=r"is not a run: it has no config\.json"):
        find(str(folder.parent))
    with pytest.raises(
        RunError, match=r"nowhere does not exist: name a run's folder, a store's file, or a database's URL"
    ):
        find("nowhere")


def test_a_store_of_elsewhere_is_opened_by_its_url(database, used, capsys):
    assert main([f"sqlite:///{database}", "--terminal", "--annotator", "ann"]) == 0
    assert used == [("terminal", "ann", {"run": None, "training": None})]
    assert "3 answers given" in capsys.readouterr().out


def test_the_default_is_a_window_where_there_is_a_display(database, used, monkeypatch):
    main([str(database.parent)])
    monkeypatch.setenv("DISPLAY", ":7")
    main([str(database.parent)])
    main([str(database.parent), "--terminal"])
    assert [name for name, *_ in used] == ["terminal", "window", "terminal"]
    assert used[0][2] == {"run": database.parent, "training": None}


def test_the_annotator_is_who_is_logged_in(database, used, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "kim")
    main([str(database), "--terminal"])
    main([str(database), "--terminal", "--annotator", "Zoë"])
    assert [annotator for _, annotator, _ in used] == ["kim", "Zoë"]


def test_in_the_end_it_says_what_came_of_it(database, used, capsys):
    main([str(database), "--window", "--annotator", "ann"])
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "3 answers given. 6 queries wait for an answer.",
        "3 answers in the store, by ann",
        "  median time of an answer      1.5 s",
    ]
    assert out[3:] == ["  the left one was chosen       2 of 3 times"]


def test_the_figures_of_several_people(database):
    with Store(database) as store:
        for annotator, answers in {"ann": "first first second", "bob": "first second second"}.items():
            for number, answer in enumerate(answers.split(), 1):
                store.answer(number, answer, annotator=annotator)
        store.answer(1, "first", annotator="ann")
        assert figures(store.ledger()) == [
            "6 answers in the store, by ann, bob",
            "  the left one was chosen       3 of 6 times",
            "  the same when asked again     1 of 1 times",
            "  agreement of people (kappa)   0.40",
        ]
    assert figures([]) == ["0 answers in the store, by nobody"]


def test_what_was_answered_is_exported_and_imported(database, used, tmp_path, capsys):
    copy = tmp_path / "copy.db"
    copy.write_bytes(database.read_bytes())
    main([str(database), "--terminal", "--annotator", "ann", "--export", str(tmp_path / "out.jsonl")])
    assert f"{tmp_path / 'out.jsonl'}: 3 answers" in capsys.readouterr().out.replace("\n", "")
    for count in (3, 0):
        main([str(copy), "--import-labels", str(tmp_path / "out.jsonl"), "--export", str(tmp_path / "tasks.json")])
        assert f"{tmp_path / 'out.jsonl'}: {count} answers new" in capsys.readouterr().out.replace("\n", "")
    assert sum(len(task["annotations"]) for task in json.loads((tmp_path / "tasks.json").read_text())) == 3
    assert len(used) == 1


def test_ctrl_c_still_exports_and_says_what_came_of_it(database, used, monkeypatch, tmp_path, capsys):
    def interrupted(store, *_):
        window.label(store, annotator="ann")
        raise KeyboardInterrupt

    monkeypatch.setitem(verb._SHOW, "window", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main([str(database), "--window", "--annotator", "ann", "--export", str(tmp_path / "out.csv")])
    assert "3 answers given" in capsys.readouterr().out
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--web", "--terminal"], "only one of --window, --terminal and --web can be used, got --terminal and --web"),
        (["--port", "70000", "--web"], "`port` must be from 0 to 65535, got 70000"),
        (["--terminal", "--port", "80"], "`host` and `port` are of the page: add --web"),
        (["--annotator", " "], "`annotator` must be a name"),
    ],
)
def test_impossible_options_are_refused(options, message, database, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([str(database), *options])
    assert exit_.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("option", ["--export", "--import-labels"])
def test_a_file_of_another_kind_is_refused_before_anybody_labels(option, database, tmp_path, used, capsys):
    with pytest.raises(SystemExit):
        main([str(database), "--terminal", option, str(tmp_path / "x.xlsx")])
    assert "the file must be one of .csv, .jsonl, .json" in capsys.readouterr().err
    assert used == []


def test_a_file_that_is_no_store_is_named(tmp_path, used):
    (tmp_path / "text.db").write_text("no database, but long enough to look at " * 40)
    with pytest.raises(StoreError, match=r"text\.db"):
        main([str(tmp_path / "text.db"), "--terminal"])
    assert used == []


def test_without_a_terminal_the_error_says_so(database, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(TerminalError, match="the input is not a terminal: run it in one"):
            main([str(database), "--terminal"])


def test_the_page_is_served_where_it_was_asked_for(database, monkeypatch):
    web, served = type(sys)("web"), []
    web.serve = lambda store, **options: served.append(options)
    monkeypatch.setitem(sys.modules, "prefgym.labelling.web", web)
    main([str(database), "--web", "--host", "0.0.0.0", "--port", "0"])
    assert served == [{"run": database.parent, "host": "0.0.0.0", "port": 0}]


def test_the_command_labels_at_a_terminal(database):
    main_, side = pty.openpty()
    command = [sys.executable, "-c", "import sys; from prefgym.scripts.label import main; sys.exit(main(sys.argv[1:]))"]
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), side)
    process = subprocess.Popen(
        [*command, str(database), "--terminal", "--annotator", "ann"],
        env=environment,
        start_new_session=True,
        **streams,
    )
    read_until(main_, "cannot be drawn at a terminal")
    os.write(main_, b" q")
    seen = read_until(main_, "1 answer given. 8 queries wait for an answer.")
    read_until(main_, "1 answer in the store, by ann", seen)
    assert process.wait(timeout=30) == 0
    os.close(main_)
    os.close(side)


def read_until(terminal_, words, seen=""):
    while words not in seen:
        assert select.select([terminal_], [], [], 30)[0], f"{words!r} was not seen: {seen}"
        seen += os.read(terminal_, 1 << 16).decode(errors="replace")
    return seen
