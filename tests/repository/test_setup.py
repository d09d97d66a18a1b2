"""The two commands: what they need, what they say when it is missing, and what they install."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SH = shutil.which("sh") or "/bin/sh"

OLD = """case "$1" in -V) echo 'Python 3.9.2' ;; *) exit 1 ;; esac"""
BARE = """case "$*" in *ensurepip*) exit 1 ;; *print*) echo 3.12 ;; esac"""
GOOD = "exit 0"


def script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def find_python(folder: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run find_python.sh where nothing but these programs is on the path."""
    folder.mkdir(exist_ok=True)
    for name, body in programs.items():
        program = folder / name
        program.write_text(f"#!{SH}\n{body}\n")
        program.chmod(0o755)
    return subprocess.run(
        [SH, str(ROOT / "scripts" / "find_python.sh")],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get install python3 python3-venv"),
        ("dnf", "sudo dnf install python3.12"),
        ("brew", "brew install python@3.12"),
    ],
)
def test_a_missing_python_is_named_with_the_command_that_brings_it(tmp_path: Path, manager: str, command: str) -> None:
    done = find_python(tmp_path / "bin", {manager: GOOD})
    assert done.returncode == 1
    assert "Python 3.11 or later; found: none" in done.stderr
    assert command in done.stderr


def test_a_python_that_is_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    done = find_python(tmp_path / "bin", {"python3": OLD})
    assert done.returncode == 1
    assert f"{tmp_path}/bin/python3 (Python 3.9.2)" in done.stderr
    assert "apt-get install" in done.stderr


def test_a_newer_python_beside_an_old_one_is_found(tmp_path: Path) -> None:
    done = find_python(tmp_path / "bin", {"python3": OLD, "python3.12": GOOD})
    assert (done.returncode, done.stdout.strip()) == (0, f"{tmp_path}/bin/python3.12")


def test_a_python_without_venv_is_enough_only_when_uv_is_there(tmp_path: Path) -> None:
    done = find_python(tmp_path / "bin", {"python3": BARE, "apt-get": GOOD})
    assert done.returncode == 1
    assert "sudo apt-get install python3.12-venv" in done.stderr
    assert find_python(tmp_path / "bin", {"uv": GOOD}).returncode == 0


def lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text())


def test_the_plain_setup_takes_the_lock_less_what_only_a_gpu_needs() -> None:
    (command,) = script("setup").sync_commands("uv", "python3", Path("there"), "pypi", lock())
    assert command[:6] == ["uv", "sync", "--locked", "--all-packages", "--python", "python3"]
    left_out = {name for option, name in pairwise(command) if option == "--no-install-package"}
    locked = {package["name"] for package in lock()["package"]}
    assert left_out == script("setup").UNUSED
    assert left_out <= locked, "a new PyTorch has other names: look at what it loads"
    assert "torch" not in left_out


def test_the_cpu_setup_leaves_out_cuda_and_nothing_else() -> None:
    sync, install = script("setup").sync_commands("uv", "python3", Path("there"), "cpu", lock())
    left_out = {name for option, name in pairwise(sync) if option == "--no-install-package"}
    locked = {package["name"]: package["version"] for package in lock()["package"] if "version" in package}
    assert {name for name in locked if name.startswith("nvidia-")} <= left_out
    assert left_out - {"torch", "triton"} == {name for name in left_out if re.match("nvidia-|cuda-", name)}
    assert install[:5] == ["uv", "pip", "install", "--python", "there"]
    assert install[-3:] == ["--torch-backend", "cpu", f"torch=={locked['torch']}"]


def test_the_setup_for_a_gpu_leaves_nothing_out_and_brings_back_what_was() -> None:
    (command,) = script("setup").sync_commands("uv", "python3", Path("there"), "cuda", lock())
    assert "--no-install-package" not in command
    again = {name for option, name in pairwise(command) if option == "--reinstall-package"}
    assert again == set(script("setup").TRIMMED), "a new PyTorch has other names: look at what it loads"


@pytest.mark.parametrize("build", ["pypi", "cpu", "cuda"])
def test_downloads_are_announced_with_their_size(build: str) -> None:
    text = script("setup").ANNOUNCEMENT[build]
    for part in ("PyTorch", "only trainer and compressor need it", "44 MB", "Java", "Valkey"):
        assert part in text
    assert ("3 GB" in text and "make setup TORCH=cpu" in text) == (build == "pypi")


UV = """
case "$1" in --version) echo 'uv 0.13.9'; exit ;; esac
echo "$*" >> "$LOG"
case "$*" in *3.0*) exit 1 ;; esac
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin" "$UV_PROJECT_ENVIRONMENT/lib/python3/site-packages/nvidia/cudnn/lib"
touch "$UV_PROJECT_ENVIRONMENT/lib/python3/site-packages/nvidia/cudnn/lib/libcudnn_ops.so.9"
printf '#!/bin/sh\\necho "$@" >> "$LOG"\\n' > "$UV_PROJECT_ENVIRONMENT/bin/pytest"
chmod +x "$UV_PROJECT_ENVIRONMENT/bin/pytest"
"""


def test_other_pythons_get_what_setup_installs_and_one_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, uv = tmp_path / "log", tmp_path / "uv"
    uv.write_text(f"#!{SH}\n{UV}")
    uv.chmod(0o755)
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    matrix = script("matrix")
    monkeypatch.setattr(matrix.setup, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr("sys.argv", ["matrix.py", "3.0", "3.13", "--", "-m", "quick"])
    with pytest.raises(SystemExit, match=r"failed with Python 3\.0$"):
        matrix.main()
    refused, filled, tested = log.read_text().splitlines()
    (expected,) = script("setup").sync_commands("uv", "3.13", Path("there"), "pypi", lock())
    assert (refused, filled) == (" ".join(expected[1:]).replace("3.13", "3.0"), " ".join(expected[1:]))
    assert tested == "--numprocesses 2 -m quick"
    assert not list((tmp_path / "tools" / "python-3.13").rglob("libcudnn_*"))


def make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607


def test_make_alone_lists_every_target() -> None:
    listed = set(re.findall(r"^  ([a-z-]+) ", make(), re.MULTILINE))
    assert listed >= {"setup", "demo", "test", "up", "down", "lint", "proto", "bench", "help", "clean"}
    assert listed == set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_keeps_bytecode_and_not_among_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    (tmp_path / "told.mk").write_text("told:\n\t@env\n")
    told = dict(
        line.partition("=")[::2]
        for line in make("-f", "Makefile", "-f", str(tmp_path / "told.mk"), "told").splitlines()
    )
    assert "PYTHONDONTWRITEBYTECODE" not in told
    # Not in the environment: the setup's own Python would write there before there is one, and uv would refuse it.
    assert told["PYTHONPYCACHEPREFIX"] == str(ROOT / ".bytecode")


def test_recipes_are_short() -> None:
    recipes = re.findall(r"^\S.*:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipes
    assert all(recipe.count("\n") <= 2 for recipe in recipes)


@pytest.mark.parametrize("tagged", [True, False])
def test_contracts_are_compared_with_the_last_tag_or_their_first_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tagged: bool
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    protos = tmp_path / "protos" / "headrace"
    protos.mkdir(parents=True)
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "before")
    commits = []
    for name in ("a", "b"):
        (protos / f"{name}.proto").write_text("")
        git("add", ".")
        git("commit", "-q", "-m", name)
        commits.append(git("rev-parse", "HEAD"))
    if tagged:
        git("tag", "v1")
        git("commit", "-q", "--allow-empty", "-m", "after")
    lint = script("lint")
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    assert lint.released_contracts() == ("v1" if tagged else commits[0])
