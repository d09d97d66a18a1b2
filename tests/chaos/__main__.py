"""Kills, pauses and adds instances, changes topics, poisons them and fills a disk while records flow, then audits.

    python tests/chaos --seed 7 --minutes 20

prints the schedule, what happens, and at the end one line of figures; exits 1 with the first differences when a record
was lost, doubled or rejected for the wrong reason, is not in one dataset once it is clean, or a command or a request
did not end in one fact.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import backlog
import datasets
import poison
from anew import Anew
from audit import Verdict, audit
from commits import Commits
from headrace_client import RegistryClient
from headrace_local.launcher import Platform
from headrace_runtime.kafka import Admin
from headrace_runtime.services import SERVICES
from headrace_runtime.settings import KafkaSettings
from memory import high_water_marks
from progress import Progress, drained
from records import PARTITIONS, PIPELINE, PRODUCERS, SPEC
from schedule import ADD, ANEW, BROKER, FILL, FREEZE, GROW, KILL, PAUSE, POISON, REMOVE, RESTART, plan
from stage import Stage

NEEDED = ("ingestion", "preprocessing", "model-registry", "trainer")
LONG_RUN_RECORDS = 1_000_000
RECORDS_PER_S = 1_500
"""What a short run sends: little enough for a machine that does other work as well."""
DRAIN_S = 300.0
"""How long the platform may take without any news after the last event."""


class Stuck(Exception):
    """The records stopped coming out."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    seed: int
    length_s: float
    records: int
    broker: bool
    backlog_bytes: int
    home: Path | None


def options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--records", type=int, help="default: 1,000,000, or 1,500 a second in a shorter run")
    parser.add_argument("--no-broker", action="store_true", help="leave the broker alone")
    parser.add_argument("--backlog-gb", type=float, default=0.0, help="then let a backlog of this size pass, in GB")
    parser.add_argument("--home", type=Path, help="keep the platform's state here, to look at afterwards")
    told = parser.parse_args()
    length_s = told.minutes * 60
    records = told.records or min(LONG_RUN_RECORDS, int(length_s * RECORDS_PER_S))
    return Options(told.seed, length_s, records, not told.no_broker, int(told.backlog_gb * 1e9), told.home)


def say(line: str) -> None:
    """Tell what happens, at once."""
    print(line, flush=True)


def main() -> int:
    """Run, audit, and return the exit code."""
    told = options()
    # No run begins here: the trainer is there for the commands that it cannot carry out.
    os.environ["HEADRACE_STANDBY"] = "false"
    events = plan(told.seed, told.length_s, broker=told.broker)
    say(f"seed {told.seed}: {told.records} records in {told.length_s:.0f} s")
    for event in events:
        say(f"  {event}")
    services = [SERVICES[name] for name in NEEDED]
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        home = told.home or Path(folder)
        with Platform.on_free_ports(home, services=services) as platform:
            settings = KafkaSettings.model_validate({"kafka_bootstrap_servers": platform.bootstrap_servers})
            differences = run(told, platform, settings)
            if told.backlog_bytes:
                differences += backlog.run(platform, settings, told.backlog_bytes, say)
    for difference in differences:
        say(f"WRONG {difference}")
    return 1 if differences else 0


def run(told: Options, platform: Platform, settings: KafkaSettings) -> list[str]:
    """Play the schedule on a platform that runs, tell how it went, and return what is wrong."""
    anew = Anew(settings, told.seed)
    stage = Stage(platform, anew, settings, say)
    with Admin(settings, "chaos") as admin:
        admin.ensure_topic(PIPELINE, PARTITIONS)
    with RegistryClient(platform.addresses["registry"]) as registry:
        registry.apply(SPEC)
        anew.begin(registry)
    progress, commits = Progress(settings), Commits(settings)
    progress.start()
    commits.start()
    began = time.monotonic()
    producers = start_producers(told, platform)
    stuck = ""
    try:
        stage.play(plan(told.seed, told.length_s, broker=told.broker), lambda: None)
        stage.settle()
        sent = sum(acknowledged(producer) for producer in producers)
        progress.watching = False
        wait_until_drained(settings, progress, sent)
    except Stuck as error:
        stuck = str(error)
    finally:
        stage.settle()
        for producer in producers:
            producer.kill()
            producer.wait()
        progress.stop()
        commits.stop()
    lasted_s = time.monotonic() - began
    datasets.ask(settings, "last")
    verdict = audit(settings, told.records)
    wrong = poison.audit(settings, stage.done[POISON])
    topics, unread = anew.audit(platform.connections.store_url)
    frozen, unfrozen = datasets.audit(settings, platform.connections.store_url, verdict.clean)
    verdict.differences += [*wrong, *unfrozen, *unread, *commits.differences]
    say(f"{frozen} datasets, {topics}")
    if stuck:
        verdict.differences.insert(0, stuck)
    marks = high_water_marks(platform)
    figures(told, stage, verdict, (progress.longest_stall_s, lasted_s, max(marks.values()) / 2**20))
    return verdict.differences


def start_producers(told: Options, platform: Platform) -> list[subprocess.Popen[str]]:
    """Start the plain producers; together they need about as long as the schedule."""
    share = [told.records // PRODUCERS + (number < told.records % PRODUCERS) for number in range(PRODUCERS)]
    script = str(Path(__file__).with_name("produce.py"))
    return [
        subprocess.Popen(
            [
                *(sys.executable, script, "--bootstrap-servers", platform.bootstrap_servers, "--topic", PIPELINE),
                *("--seed", str(told.seed), "--producer", str(number), "--count", str(count)),
                *("--rate", str(count / told.length_s)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, count in enumerate(share)
    ]


def acknowledged(producer: subprocess.Popen[str]) -> int:
    """Wait for a producer and return how many messages it knows to be written."""
    told, _ = producer.communicate(timeout=900)
    if producer.returncode:
        raise Stuck("a producer failed")
    return int(told)


def wait_until_drained(settings: KafkaSettings, progress: Progress, sent: int) -> None:
    """Return when every record came out, or when nothing waits any more. Raises Stuck when neither comes."""
    while progress.total() < sent or not drained(settings):
        if progress.quiet_s() > DRAIN_S:
            raise Stuck(f"stuck: {progress.total()} of {sent} records came out, and none for {DRAIN_S:.0f} s")
        if progress.quiet_s() > DRAIN_S / 10 and drained(settings):
            return
        time.sleep(0.5)


def figures(told: Options, stage: Stage, verdict: Verdict, measured: Sequence[float]) -> None:
    """Print the one line that sums up a run."""
    done, (stall_s, lasted_s, peak_mib) = stage.done, measured
    say(
        f"chaos seed={told.seed} records={verdict.records} clean={len(verdict.clean)} dead={verdict.dead} "
        f"kills={done[KILL]} broker_kills={done[BROKER]} pauses={done[PAUSE]} restarts={done[RESTART]} "
        f"added={done[ADD]} removed={done[REMOVE]} poisoned={done[POISON]} "
        f"grown={done[GROW]} made_anew={done[ANEW]} freezes={done[FREEZE]} full_disks={done[FILL]} "
        f"refused_writes={stage.refusals()} "
        f"longest_stall={stall_s:.1f}s peak_memory={peak_mib:.0f}MiB "
        f"duration={lasted_s:.0f}s wrong={len(verdict.differences)}"
    )


if __name__ == "__main__":
    sys.exit(main())
