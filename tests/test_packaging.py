"""What is installed is what is in the tree, and needs what it says it needs."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAPPED = ("agents", "envs", "scripts")  # folders at the root that are installed as prefgym's
BEHIND = {"accelerate"}  # transformers.Trainer needs it, and we import it nowhere
EXTRAS = ("bench", "lora", "ray", "text", "video", "vllm")  # what the installed code imports only where it is asked for
NOT_SHIPPED = (".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


def folders():
    """Package name to folder, for every folder with Python files in it that is to be installed."""
    found = {}
    for root in ("prefgym", *MAPPED):
        for folder, below, files in os.walk(ROOT / root):  # does not follow links
            below[:] = [name for name in below if name != "__pycache__"]
            if any(name.endswith(".py") for name in files):
                name = Path(folder).relative_to(ROOT).as_posix().replace("/", ".")
                found[name if root == "prefgym" else f"prefgym.{name}"] = Path(folder)
    return found


def test_every_folder_with_code_is_listed_and_no_other(setup):
    assert sorted(lines(setup["options"]["packages"])) == sorted(folders())


def test_every_package_has_an_init():
    assert [name for name, folder in folders().items() if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", MAPPED)
def test_folders_at_the_root_are_mapped_and_linked(name, setup):
    link = ROOT / "prefgym" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert f"prefgym.{name} = {name}" in lines(setup["options"]["package_dir"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names in a wheel built from a copy of the tree, and its metadata."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(folder), str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        return names, {name: archive.read(name).decode() for name in names if ".dist-info/" in name}


def test_the_wheel_has_every_file_of_the_packages_once(wheel):
    shipped = [name for name in wheel[0] if ".dist-info/" not in name]
    expected = []
    for name, folder in folders().items():
        files = [path for path in folder.iterdir() if path.is_file()]
        expected += [f"{name.replace('.', '/')}/{path.name}" for path in files]
    assets = [f"prefgym/envs/assets/{path.name}" for path in (ROOT / "envs/assets").iterdir() if path.suffix == ".xml"]
    page = [f"prefgym/labelling/page/{path.name}" for path in (ROOT / "prefgym/labelling/page").iterdir()]
    assert assets
    assert page
    assert sorted(shipped) == sorted(expected + assets + page)


def test_the_wheel_has_data_licence_and_command(wheel):
    names, texts = wheel
    assert {"prefgym/py.typed", "prefgym/pages/page.html", "prefgym/pages/page.css"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (commands,) = (text for name, text in texts.items() if name.endswith("entry_points.txt"))
    assert "prefgym = prefgym.scripts:main" in commands


IMPORT = """
import sys, time
began = time.perf_counter()
import prefgym, gymnasium
seconds = time.perf_counter() - began
heavy = {"torch", "mujoco", "transformers", "stable_baselines3", "pygame", "matplotlib", "tyro"} & set(sys.modules)
assert not heavy, heavy
assert "prefgym/Backflip-v0" in gymnasium.registry
print(seconds)
"""


def test_importing_is_quick_and_brings_nothing_heavy():
    command = [sys.executable, "-c", IMPORT]
    seconds = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(seconds) < 0.5


def imported():
    """Top-level modules that the installed code imports, standard library and itself left out."""
    found = set()
    for folder in folders().values():
        for path in folder.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"prefgym"}


def required(text):
    return {canonical(re.split(r"[ <>=]", line)[0]) for line in lines(text)}


def canonical(name):
    return name.lower().replace("_", "-")


def test_what_is_imported_is_required_and_the_other_way_round(setup):
    providers = packages_distributions()
    used = {name: set(map(canonical, providers.get(name, [name]))) for name in imported()}
    needed = required(setup["options"]["install_requires"])
    extra = set().union(*(required(setup["options.extras_require"][name]) for name in EXTRAS))
    assert [name for name, ones in used.items() if not ones & (needed | extra)] == []
    assert needed - set().union(*used.values()) <= BEHIND


def test_the_extras_are_not_needed_to_import_anything(setup):
    """Everything imports at once, in a process where the extras do not exist."""
    extras = {name.replace("-", "_") for extra in EXTRAS for name in required(setup["options.extras_require"][extra])}
    extras |= {"vaderSentiment", "pyarrow"}
    modules = [
        ".".join([name, path.stem]) if path.stem != "__init__" else name
        for name, folder in folders().items()
        for path in folder.glob("*.py")
    ]
    script = f"import sys, importlib\nsys.modules.update(dict.fromkeys({extras}))\n"
    script += f"for name in {modules}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
