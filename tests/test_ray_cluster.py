"""The benchmark on a real Ray cluster of two nodes, of which one is killed in the middle, and then the other."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from prefgym import __version__
from prefgym.benchmark.jobs import run_cells
from prefgym.benchmark.pools import STAGES, Pool, pool_path, read_pool, write_pool
from prefgym.benchmark.ray_cluster import ClusterError, RayCluster, host_and_port
from prefgym.benchmark.ray_driver import TRIES
from prefgym.benchmark.results import Results
from prefgym.benchmark.suites import narrowed, suite_of
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.work import receive, ship
from prefgym.recorder import Pieces
from prefgym.scripts import main

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes do not know this file


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each, with a cache of their own; Ray tells nobody about it."""
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # its sockets' paths must be short
    (folder / "ray").mkdir()  # where the address is noted: Ray takes for granted that its usual folder is there
    started = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PREFGYM_CACHE", str(folder / "cache"))
        started.add_node(num_cpus=1, include_dashboard=False, temp_dir=str(folder))
        started.add_node(num_cpus=1)
    started.cache = folder / "cache"
    yield started
    started.shutdown()
    shutil.rmtree(folder)


@pytest.fixture
def meeting(tmp_path):
    """A folder with two FIFOs, by which work and test wait for each other."""
    for name in ("reached", "killed"):
        os.mkfifo(tmp_path / name)
    return tmp_path


def visit(item, doomed, folder):
    """Notes where it is done. On a doomed node it says so, and never ends; elsewhere it waits until that is dead."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    with (folder / "log").open("a") as log:
        log.write(f"{item} {node}\n")
    if node in doomed:
        (folder / "reached").write_text("here")
        signal.pause()
    os.close(os.open(folder / "killed", os.O_RDONLY))
    if item == "fatal":
        os.kill(os.getpid(), signal.SIGKILL)
    return item * 2 if item != "wrong" else item / 2


def when_reached(folder, kill):
    """Kills once the work is under way on what is doomed."""

    def wait():
        (folder / "reached").read_text()
        kill()
        os.open(folder / "killed", os.O_RDWR)  # never closed: nobody waits from now on

    threading.Thread(target=wait, daemon=True).start()


def test_a_node_dies_and_every_item_is_there_once(cluster, meeting):
    (doomed,) = cluster.worker_nodes
    when_reached(meeting, lambda: cluster.remove_node(doomed, allow_graceful=False))
    items = [*"abcdefgh", "fatal", "wrong"]
    work = partial(visit, doomed=(doomed.node_id,), folder=meeting)
    found = list(RayCluster(cluster.address, 60, meeting / "ray.log")(work, items))
    assert sorted(item for item, _ in found) == sorted(items)
    outcomes = dict(found)
    assert {item: outcomes[item].value for item in "abcdefgh"} == {item: item * 2 for item in "abcdefgh"}
    assert f"died, {TRIES} times" in outcomes["fatal"].error
    assert "TypeError" in outcomes["wrong"].error
    visits = [line.split() for line in (meeting / "log").read_text().splitlines()]
    (struck,) = [item for item, node in visits if node == doomed.node_id]
    assert [node for item, node in visits if item == struck][1:2] == [cluster.head_node.node_id]


def by_lot(spec):
    rng = np.random.default_rng(spec.seed)
    seen, done, shown = (rng.normal(size=(len(STAGES) * 60, 20, width)).astype(np.float32) for width in (6, 2, 0))
    pieces = Pieces(seen, done, shown, seen[..., 0], np.arange(len(seen)))
    return Pool(pieces, pieces, {"random_return": 0.0, "expert_return": 1.0})


def test_cells_are_computed_there_on_the_pools_from_here(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFGYM_CACHE", str(tmp_path / "cache"))
    suite = narrowed(suite_of("smoke"), tracks=["offline"], methods=["true"], teachers=["oracle"])
    for name in ("backflip", "cheetah-stand"):
        write_pool(pool_path(tasks[name], suite.settings.pool), by_lot(suite.settings.pool))
    results = Results.begin(tmp_path / "r", "smoke", asdict(suite.settings), suite.cells)
    assert run_cells(suite.cells, results.folder, cluster=RayCluster(cluster.address, 60, tmp_path / "ray.log")) == {}
    assert set(results.finished()) == set(suite.cells)
    path = pool_path(tasks["backflip"], suite.settings.pool)
    there = cluster.cache / "pools" / path.name
    assert read_pool(there).checksum == read_pool(path).checksum
    assert {row["version"] for row in results.rows()} == {__version__}


def test_a_node_with_another_version_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("prefgym.benchmark.ray_cluster.__version__", "9.9")
    with pytest.raises(ClusterError, match=rf"prefgym 9\.9 must be installed on every node.*has prefgym {__version__}"):
        list(RayCluster(cluster.address, 60, tmp_path / "ray.log")(eval, ["1"]))


def test_a_cluster_that_is_lost_is_given_up_and_what_is_done_kept(cluster, meeting, monkeypatch, caplog):
    monkeypatch.setattr("prefgym.benchmark.ray_cluster.PAUSE", 0.01)
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")  # Ray's own patience: a minute
    head, address = cluster.head_node, cluster.address
    when_reached(meeting, lambda: cluster.remove_node(head, allow_graceful=False))
    found = []
    with pytest.raises(ClusterError, match=r"is lost .*given up after 1 seconds.* the same command goes on") as error:
        found.extend(RayCluster(address, 1, meeting / "ray.log")(partial(last, folder=meeting), [1, 2]))
    assert [item for item, _ in found] == [1]
    assert "nothing answers there" in str(error.value)
    assert "1 of 2 are done; it is looked for again" in caplog.text
    with pytest.raises(ClusterError, match=r"there is no Ray cluster at .* nothing answers there"):
        list(RayCluster(address, 60, meeting / "ray.log")(eval, ["1"]))


def last(item, folder):
    """The second never ends."""
    if item == 2:
        (folder / "reached").write_text("here")
        signal.pause()
    return item


# Without a cluster.


def test_a_pool_that_was_made_elsewhere_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFGYM_CACHE", str(tmp_path))
    settings = suite_of("smoke").settings
    path = pool_path(tasks["backflip"], settings.pool)
    write_pool(path, by_lot(settings.pool))
    shipped = ship(["backflip"], settings)["backflip"]
    path.unlink()
    receive("backflip", settings, shipped)
    assert path.read_bytes() == shipped.file
    other = by_lot(settings.pool)
    other.candidates.rewards[:] += 1
    write_pool(path, other)
    with pytest.raises(ValueError, match=r"another pool of backflip .* delete it, or set PREFGYM_CACHE"):
        receive("backflip", settings, shipped)


@pytest.mark.parametrize("address", ["here", "ray://a:1", "a:b", "a:1:2", "a:1/b", ""])
def test_addresses_have_a_form(address):
    with pytest.raises(ValueError, match="`cluster` must be HOST:PORT or auto, got"):
        RayCluster(address)
    assert host_and_port("a:6379") == ("a", 6379)
    assert host_and_port("auto") is None
    with pytest.raises(ValueError, match="`patience` must be at least 0"):
        RayCluster("a:1", -1)


def test_without_ray_it_is_said_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("prefgym.benchmark.ray_cluster.find_spec", lambda name: None)
    assert main(["bench", "run", "smoke", "--out", str(tmp_path / "r"), "--cluster", "127.0.0.1:6379"]) == 2
    assert 'pip install "prefgym[ray]"' in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
