"""Producers' topics: created, listed and described through Kafka's admin API, with the services' own settings.

Needs the extra `headrace-client[kafka]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

from headrace_client.brokers import CONNECT_TIMEOUT_MS, kafka_errors, kafka_settings
from headrace_client.errors import InputInvalid, InvalidRequest, NotFound, NotPossibleNow
from headrace_client.views import View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace_runtime.kafka import Admin

OWN_PREFIXES = ("headrace.", "__")
"""How the names of topics begin that are no producers': Headrace's and Kafka's own."""


def is_own(topic: str) -> bool:
    """Return whether a topic is Headrace's or Kafka's own."""
    return topic.startswith(OWN_PREFIXES)


def create_topic(name: str, partitions: int, *, replication: int = -1, config: Mapping[str, str] | None = None) -> View:
    """Create a producers' topic and return its description; -1 replicas leave the number to the brokers.

    Raises InvalidRequest with the broker's reason, NotPossibleNow when the topic exists, and InputInvalid for a name
    that Headrace keeps for itself.
    """
    if is_own(name):
        raise InputInvalid(f"topic '{name}': names that begin with {' or '.join(OWN_PREFIXES)} are no producers'")
    with _admin() as admin:
        from headrace_runtime.topic_plan import PlannedTopic

        admin.create_topic(
            name, PlannedTopic(partitions=partitions, replication_factor=replication, config=dict(config or {}))
        )
        return _description(admin, name)


def list_topics(*, every: bool = False) -> list[View]:
    """Return the producers' topics by name, with every topic those of Headrace and Kafka as well."""
    with _admin() as admin:
        partitions = {name: count for name, count in sorted(admin.topics().items()) if every or not is_own(name)}
        offsets = admin.offsets((name, number) for name, count in partitions.items() for number in range(count))
    return [
        {
            "topic": name,
            "partitions": count,
            "messages": sum(end - first for (topic, _), (first, end) in offsets.items() if topic == name),
        }
        for name, count in partitions.items()
    ]


def describe_topic(name: str) -> View:
    """Return a topic's partitions, and the settings that are its own. Raises NotFound that names similar topics."""
    with _admin() as admin:
        known = admin.topics()
        if name not in known:
            raise NotFound(unknown_topic(name, known))
        return _description(admin, name)


def unknown_topic(name: str, known: Iterable[str]) -> str:
    """Return a sentence that there is no such topic, and which there are."""
    names = sorted(each for each in known if not is_own(each))
    close = "".join(f"; did you mean '{each}'?" for each in get_close_matches(name, names, n=1))
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"there is no topic '{name}'{close}; there are: {listed or 'none'}"


def _description(admin: Admin, name: str) -> View:
    return {
        "topic": name,
        "topic_id": admin.topic_id(name),
        "partitions": [
            {
                "partition": each.partition,
                "leader": each.leader,
                "replicas": list(each.replicas),
                "in_sync": list(each.in_sync),
                "first_offset": each.first_offset,
                "end_offset": each.end_offset,
            }
            for each in admin.describe(name)
        ],
        "config": admin.own_config(name),
    }


@contextmanager
def _admin() -> Iterator[Admin]:
    settings = kafka_settings("topic")
    from headrace_runtime.errors import FailedPrecondition
    from headrace_runtime.errors import InvalidInput as Refused
    from headrace_runtime.kafka import Admin

    with kafka_errors(settings):
        try:
            with Admin(settings, "headrace.topic", bootstrap_timeout_ms=CONNECT_TIMEOUT_MS) as admin:
                yield admin
        except FailedPrecondition as error:
            raise NotPossibleNow(str(error), "FAILED_PRECONDITION") from error
        except Refused as error:
            raise InvalidRequest(str(error), "INVALID_ARGUMENT") from error
