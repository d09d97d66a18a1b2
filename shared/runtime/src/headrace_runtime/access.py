"""What each service may do in Kafka: the permissions that its topics, groups and transactional ids need.

What a service uses comes from `headrace_runtime.services` and `headrace_runtime.topics`.
Run as a program it prints the commands that grant the permissions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headrace_runtime.record_topics import RECORD_TOPICS, SCORING_GROUP
from headrace_runtime.services import PIPELINE_GROUPS, SERVICES
from headrace_runtime.topics import CONTROL_TOPICS, PREDICTION_SERVED, PUSH_ACCEPTED, REGISTRY_LOG

Resource = Literal["topic", "group", "transactional-id"]

PRODUCERS_TOPIC = "<topic>"
"""Stands for each pipeline's `stream.topic`."""

EVERY = "*"
"""Stands for every name."""

REGISTRY = "model-registry"
"""It makes and deletes topics, and tells how far everyone is behind."""

FORGETTER = "preprocessing"
"""It tells of a forgotten key until when each topic keeps its records."""
HOLD_RECORDS = (PUSH_ACCEPTED, PREDICTION_SERVED)
"""Control topics in which something of records lies."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What a service may do with a resource; `prefixed` names stand for everything that begins with them."""

    service: str
    resource: Resource
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def permissions(service: str) -> list[Permission]:
    """Return what a service needs, in the order of topics, groups and transactional ids.

    Kafka grants Describe with Read and Write, and idempotent writes with Write. Names of which a pipeline's is a part
    are granted by their beginning, so that a new pipeline needs no new permission but for its producers' topic.
    """
    found = [*_producers_topic(service), *_control_topics(service), *_record_topics(service)]
    found += _merged(service, "group", SERVICES[service].groups, "Read")
    if service == REGISTRY:
        # It tells how far everyone is behind: it looks at all groups and at the ends of all topics that they read.
        found.append(Permission(service, "group", EVERY, ("Describe",)))
        # For `headrace delete`.
        found += _merged(service, "group", PIPELINE_GROUPS, "Delete")
        # It commits where scoring begins.
        found += _merged(service, "group", [SCORING_GROUP], "Read")
    found += _merged(service, "transactional-id", SERVICES[service].transactional_ids, "Write")
    return found


def _producers_topic(service: str) -> list[Permission]:
    operations = SERVICES[service].on_producers_topics
    return [Permission(service, "topic", PRODUCERS_TOPIC, operations)] if operations else []


def _control_topics(service: str) -> list[Permission]:
    found: list[Permission] = []
    for topic in CONTROL_TOPICS:
        operations = _operations(service, topic.producers, topic.consumers)
        if service == REGISTRY:
            operations += ("DescribeConfigs",) if topic is REGISTRY_LOG else () if operations else ("Describe",)
        if service == FORGETTER and topic in HOLD_RECORDS:
            operations = (*(operations or ("Describe",)), "DescribeConfigs")
        if operations:
            found.append(Permission(service, "topic", topic.name, operations))
    return found


def _record_topics(service: str) -> list[Permission]:
    together = [_operations(service, topic.producers, topic.consumers) for topic in RECORD_TOPICS]
    operations = tuple(sorted({operation for each in together for operation in each}))
    if service == REGISTRY:
        # They grow with the producers' topic, and go with `headrace delete`.
        operations += ("Describe", "Create", "Alter", "Delete")
    if service == FORGETTER:
        operations += ("DescribeConfigs",)
    prefix = RECORD_TOPICS[0].template.partition("{")[0]
    return [Permission(service, "topic", prefix, operations, prefixed=True)] if operations else []


def _operations(service: str, producers: Sequence[str], consumers: Sequence[str]) -> tuple[str, ...]:
    return ("Read",) * (service in consumers) + ("Write",) * (service in producers)


def _merged(service: str, resource: Resource, names: Sequence[str], operation: str) -> list[Permission]:
    """Return a permission for each name, those that begin alike in one."""
    cut = {name.partition("{")[0]: "{" in name for name in names}
    prefixes = {name for name, prefixed in cut.items() if prefixed}
    return [
        Permission(service, resource, name, (operation,), prefixed=prefixed)
        for name, prefixed in cut.items()
        if prefixed or not any(name.startswith(prefix) for prefix in prefixes)
    ]


def commands(bootstrap_servers: str, topics: Sequence[str], principal: str) -> list[str]:
    """Return the `kafka-acls.sh` commands that grant every service its permissions.

    `{service}` in the principal stands for the service's name; `topics` are those of the producers.
    """
    found = []
    for service in SERVICES:
        who = principal.format(service=service)
        for each in permissions(service):
            operations = " ".join(f"--operation {operation}" for operation in each.operations)
            pattern = " --resource-pattern-type prefixed" if each.prefixed else ""
            for name in topics if each.name == PRODUCERS_TOPIC else [each.name]:
                found.append(
                    f"kafka-acls.sh --bootstrap-server {bootstrap_servers} --add --allow-principal '{who}' "
                    f"{operations} --{each.resource} '{name}'{pattern}"
                )
    return found


def main() -> None:
    """Print the commands."""
    parser = argparse.ArgumentParser(prog="python -m headrace_runtime.access", description=commands.__doc__)
    parser.add_argument("--bootstrap-server", default="127.0.0.1:9092", help="Kafka brokers")
    parser.add_argument("--topic", action="append", default=[], help="a producers' topic; may be given again")
    parser.add_argument("--principal", default="User:headrace-{service}", help="who a service is to Kafka")
    arguments = parser.parse_args()
    print("\n".join(commands(arguments.bootstrap_server, arguments.topic, arguments.principal)))  # noqa: T201


if __name__ == "__main__":
    main()
