"""`python -m headrace_runtime.provision PLAN.json` makes the topics of a plan that do not exist yet.

Run before services start, by the Helm chart's hook or by hand; running it again changes nothing. Topics that exist are
never changed: it says where they differ from the plan. With `--owner NAME` it makes nothing where the topics belong to
another installation (see `kafka.claims`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from kafka.errors import KafkaError

from headrace_runtime.errors import HeadraceError, InvalidInput
from headrace_runtime.kafka import Admin
from headrace_runtime.kafka.claims import claim
from headrace_runtime.settings import KafkaSettings, load_settings
from headrace_runtime.topic_plan import PlannedTopic, TopicPlan
from headrace_runtime.topics import INSTALLATION_CLAIMED


def provision(settings: KafkaSettings, plan: TopicPlan, owner: str = "") -> Iterator[str]:
    """Make what is missing; yield one line for each topic that was made, or that differs from the plan.

    With an owner, the topics are claimed for that installation first. Raises FailedPrecondition when they are
    another's.
    """
    with Admin(settings, "provision") as admin:
        made = []
        if owner:
            first = INSTALLATION_CLAIMED.name
            made = admin.ensure_topics(TopicPlan(topics={first: plan.topics[first]}))
            claim(settings, owner)
        made += admin.ensure_topics(plan)
        yield from (f"{name}: made with {plan.topics[name].partitions} partitions" for name in made)
        for name in sorted(plan.topics.keys() - set(made)):
            differences = _differences(plan.topics[name], admin.partitions_of(name), admin.topic_config(name))
            if differences:
                yield f"{name}: exists and is left as it is; {'; '.join(differences)}"


def _differences(planned: PlannedTopic, partitions: int, config: Mapping[str, str]) -> list[str]:
    found = {"partitions": str(partitions)} | {key: config.get(key, "unset") for key in planned.config}
    wanted = {"partitions": str(planned.partitions)} | dict(planned.config)
    return [f"{key} is {found[key]}, planned {value}" for key, value in wanted.items() if found[key] != value]


def main() -> int:
    """Carry out the plan in the file; print what was done and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m headrace_runtime.provision", description=__doc__)
    parser.add_argument("plan", type=Path, metavar="PLAN.json", help="the topics, as the Helm chart renders them")
    parser.add_argument("--owner", default="", metavar="NAME", help="the installation that the topics are to belong to")
    arguments = parser.parse_args()
    try:
        plan = TopicPlan.parse(_contents(arguments.plan))
        for line in provision(load_settings(KafkaSettings), plan, arguments.owner):
            print(line, flush=True)  # noqa: T201
    except (HeadraceError, KafkaError) as error:
        print(f"topics: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{len(plan.topics)} topics exist")  # noqa: T201
    return 0


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"topic plan {path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
