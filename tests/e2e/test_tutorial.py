"""The tutorial works as it stands: its commands are taken from the page and run, its edits are made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from headrace_data.spec import load_pipeline
from headrace_local import ports

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|yaml|diff)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
MOST_COMMANDS = 15
MADE = ("my", ".headrace", ".git")
"""What a reader makes, so that it must not be there already, and what is none of the tutorial's business."""
ADDRESSES = ("KAFKA", "KAFKA_CONTROLLER", "VALKEY", "INGESTION", "REGISTRY", "INFERENCE")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home of its own and free ports, by the settings that a reader has too."""
    free = ports.find_free(len(ADDRESSES))
    addresses = {f"HEADRACE_{name}_ADDRESS": f"127.0.0.1:{port}" for name, port in zip(ADDRESSES, free, strict=True)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "MAKE"))}
    return {
        **kept,
        **addresses,
        "HEADRACE_HOME": str(tmp_path_factory.mktemp("home")),
        "HEADRACE_METRICS_ADDRESS": f"127.0.0.1:{ports.find_free(8, consecutive=True)[0]}",
        "KAFKA_BOOTSTRAP_SERVERS": addresses["HEADRACE_KAFKA_ADDRESS"],
        "COLUMNS": "100",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Path]:
    """The repository as a reader finds it; what the tutorial writes stays out of the real one."""
    checkout = tmp_path_factory.mktemp("headrace")
    for path in ROOT.iterdir():
        if path.name not in MADE:
            (checkout / path.name).symlink_to(path)
    yield checkout
    headrace = str(Path(sys.executable).parent / "headrace")
    subprocess.run([headrace, "down"], cwd=checkout, env=environment, capture_output=True, check=False, timeout=60)


@dataclass
class Reader:
    """Somebody who does what the page says, in one folder."""

    folder: Path
    environment: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)
    """What each command printed."""
    sourced: list[str] = field(default_factory=list)
    """Commands that changed the shell: they hold for every later one."""

    def run(self, command: str) -> None:
        script = "\n".join(["set -e", *self.sourced, command])
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        self.printed[command] = done.stdout
        if command.startswith(". "):
            self.sourced.append(command)

    @property
    def draft(self) -> Path:
        """The file that `init` is told to write."""
        return self.folder / re.findall(r"--output (\S+\.yaml)", PAGE)[0]

    def change(self, diff: str) -> None:
        """Make the changes of a diff: a line to take away must be there once, what follows it takes its place."""
        text = self.draft.read_text()
        for removed, added in re.findall(r"^-(.*\n)((?:^\+.*\n)*)", diff, re.MULTILINE):
            assert text.count(removed) == 1, f"expected once in {self.draft.name}: {removed}"
            text = text.replace(removed, re.sub(r"^\+", "", added, flags=re.MULTILINE))
        self.draft.write_text(text)


@pytest.fixture(scope="module")
def reader(folder: Path, environment: dict[str, str]) -> Reader:
    """The reader at the end of the page."""
    following = Reader(folder, environment)
    for kind, text in BLOCKS:
        if kind == "yaml":
            assert text in following.draft.read_text(), f"the draft is not what the tutorial shows:\n{text}"
        elif kind == "diff":
            following.change(text)
        else:
            for command in text.splitlines():
                following.run(command)
    return following


def test_the_tutorial_is_short_and_says_how_long_it_is() -> None:
    numbers = dict(zip(("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen"), range(10, 16), strict=True))
    told = re.search(rf"This takes ({'|'.join(numbers)}) commands", PAGE)
    assert told is not None
    assert numbers[told[1]] == len(COMMANDS) <= MOST_COMMANDS


def test_a_newcomer_reaches_a_served_model(reader: Reader) -> None:
    pipeline = load_pipeline(reader.draft.read_text())
    assert [field.name for field in pipeline.stream.features if field.name in ("year", "sex")] == ["sex"]
    assert (reader.draft.parent / "pipeline.schema.json").exists()
    whole, gaps = (text for command, text in reader.printed.items() if "headrace predict" in command)
    assert whole.count("Adelie") == 3
    assert gaps.count("Gentoo") == 1
    rejected = reader.printed["headrace dead list penguins"]
    assert "4 in all: duplicates 1, json 1, outOfRange 1, type 1" in rejected


def test_the_reports_show_what_was_learned_and_from_what(reader: Reader) -> None:
    version, dataset = ((reader.folder / "my" / f"{name}.html").read_text() for name in ("version", "dataset"))
    for words in (
        "Loss by epoch",
        "Confusion matrix: ",
        "Reliability diagram",
        "Variants by latency and accuracy: fp32, int8",
    ):
        assert words in version
    for words in ("Histogram of body_mass_g after the transform", "missing becomes unknown", "outOfRange"):
        assert words in dataset


def test_nothing_goes_on_running(reader: Reader) -> None:
    assert "stopped" in reader.printed["make down"]
    assert not (Path(reader.environment["HEADRACE_HOME"]) / "platform.json").exists()
