"""Whose the topics of a Kafka cluster are: one installation's, which wrote the first claim into its topic."""

from __future__ import annotations

from headrace.events.v1.installation_pb2 import InstallationClaimed

from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.kafka.producers import best_effort_producer, send
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import INSTALLATION_CLAIMED

NAME = "provision"
ANSWER_S = 30.0


def claim(settings: KafkaSettings, owner: str) -> None:
    """Claim the cluster's topics for an installation, unless it has them already.

    Two installations on one cluster would share topics, consumer groups and transactional ids: each would read the
    other's records and fence the other's writers. Of two claims at once the first in the log holds. The topic of the
    claims must exist. Raises FailedPrecondition when the topics are another installation's.
    """
    holder = _first(settings)
    if holder is None:
        _write(settings, owner)
        holder = _first(settings)
    if holder != owner:
        raise FailedPrecondition(
            f"the topics of this Kafka cluster belong to the installation {holder!r}, and this is {owner!r}: two on "
            "one cluster would share topics, consumer groups and transactional ids. Give this one a cluster of its "
            "own; or, where the other one is gone for good, go on in its place under its name "
            f"(kafka.topics.owner: {holder})"
        )


def _first(settings: KafkaSettings) -> str | None:
    with LogReader(settings, NAME) as reader:
        places = reader.partitions(INSTALLATION_CLAIMED.name)
        reader.start_at(dict.fromkeys(places))
        for records in reader.read_to(reader.ends(places), ANSWER_S):
            return decode(records[0], InstallationClaimed).owner
    return None


def _write(settings: KafkaSettings, owner: str) -> None:
    producer = best_effort_producer(settings, NAME, 0.0)
    try:
        send(producer, encode(InstallationClaimed(owner=owner), source=NAME)).get(timeout=ANSWER_S)
    finally:
        producer.close()
