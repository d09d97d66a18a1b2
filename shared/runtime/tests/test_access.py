from __future__ import annotations

import pytest
from headrace_runtime.access import EVERY, PRODUCERS_TOPIC, Permission, permissions
from headrace_runtime.record_topics import RECORD_TOPICS, SCORING_GROUP
from headrace_runtime.services import SERVICES
from headrace_runtime.topics import CONTROL_TOPICS, PREDICTION_SERVED, PUSH_ACCEPTED


def allows(service: str, resource: str, name: str, operation: str) -> bool:
    return any(
        operation in each.operations
        and each.resource == resource
        and (each.name in (name, EVERY) or (each.prefixed and name.startswith(each.name)))
        for each in permissions(service)
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_do_what_its_topics_say_and_no_more(service: str) -> None:
    for topic in CONTROL_TOPICS:
        assert allows(service, "topic", topic.name, "Read") == (service in topic.consumers), topic.name
        assert allows(service, "topic", topic.name, "Write") == (service in topic.producers), topic.name
    for record_topic in RECORD_TOPICS:
        if service in record_topic.consumers:
            assert allows(service, "topic", record_topic.name("digits"), "Read")
        if service in record_topic.producers:
            assert allows(service, "topic", record_topic.name("digits"), "Write")


def test_whoever_forgets_keys_may_look_up_how_long_topics_keep_records() -> None:
    names = [PRODUCERS_TOPIC, PUSH_ACCEPTED.name, PREDICTION_SERVED.name, *(each.name("p") for each in RECORD_TOPICS)]
    assert all(allows("preprocessing", "topic", name, "DescribeConfigs") for name in names)
    assert allows("preprocessing", "topic", PUSH_ACCEPTED.name, "Describe")


@pytest.mark.parametrize("service", SERVICES)
def test_its_groups_and_transactional_ids_are_granted(service: str) -> None:
    values = {"pipeline": "digits", "instance": "3", "class": "avx2"}
    for resource, operation, templates in (
        ("group", "Read", SERVICES[service].groups),
        ("transactional-id", "Write", SERVICES[service].transactional_ids),
    ):
        for template in templates:
            name = template.format(**values)
            assert allows(service, resource, name, operation)
            # The registry commits where scoring begins.
            spared = {service, "model-registry"} if template == SCORING_GROUP else {service}
            others = [other for other in SERVICES if other not in spared]
            assert not any(allows(other, resource, name, operation) for other in others)


def test_names_that_begin_alike_are_granted_once() -> None:
    granted = [each for each in permissions("ingestion") if each.resource == "transactional-id"]
    assert granted == [Permission("ingestion", "transactional-id", "ingestion.", ("Write",), prefixed=True)]
