from headrace_runtime.kafka.assignor import TruthfulAssignor
from kafka import TopicPartition
from kafka.protocol.consumer import ConsumerProtocolAssignment


def claimed(assignor: TruthfulAssignor) -> list[tuple[str, list[int]]]:
    return [(item.topic, item.partitions) for item in assignor.metadata(["t"]).owned_partitions]


def test_a_member_claims_what_it_owns_and_not_what_it_was_given_once() -> None:
    assignor = TruthfulAssignor()
    owned = {TopicPartition("t", 0), TopicPartition("t", 2)}
    assignor.owned = lambda: owned
    given = ConsumerProtocolAssignment(version=1, assigned_partitions=[("t", [0, 2])], user_data=b"")
    assignor.on_assignment(given, 1)
    assert claimed(assignor) == [("t", [0, 2])]
    owned.clear()
    assert claimed(assignor) == []
