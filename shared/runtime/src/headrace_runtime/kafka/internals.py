"""The private parts of kafka-python that this project uses, in one place; docs/upstream.md says why, and since when.

Nothing else names an attribute of kafka-python that begins with an underscore. Each function stands for one row of that
document, and each row has a test on the plain library that fails once the row is not needed any more.
"""

# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.record import default_records
from kafka.structs import MemberState


def coordinator_of(consumer: KafkaConsumer) -> Any:
    """Return what joins a group for a consumer and commits its offsets."""
    return consumer._coordinator


def subscription_of(consumer: KafkaConsumer) -> Any:
    """Return what knows the partitions of a consumer and its positions in them."""
    return consumer._subscription


def fetcher_of(consumer: KafkaConsumer) -> Any:
    """Return what fetches for a consumer."""
    return consumer._fetcher


def cluster_of(consumer: KafkaConsumer) -> Any:
    """Return the metadata of a consumer's cluster, with the ids of topics."""
    return consumer._client.cluster


def decode_with(consumer: KafkaConsumer, records: type) -> None:
    """Have a consumer decode what it fetches with this class."""
    consumer._fetcher.PartitionRecords = records


def uncompressed(batch: Any) -> tuple[int, Callable[[], bytes]]:
    """Return where the records of a batch begin in its bytes, uncompressed, and what returns these."""
    batch._maybe_uncompress()
    return batch._pos, lambda: bytes(batch._buffer)


def compress_with(zstd_encode: Callable[[bytes], bytes]) -> None:
    """Have all producers of this process compress batches with Zstandard in this way."""
    default_records.zstd_encode = zstd_encode


def claim_owned(consumer: KafkaConsumer, assignor: str, owned: Callable[[], Collection[TopicPartition]]) -> None:
    """Have a consumer's assignor, which kafka-python makes, ask here what the member owns."""
    consumer._coordinator._assignors[assignor].owned = owned


def offsets_forgotten_by(consumer: KafkaConsumer) -> Callable[[], None]:
    """Return what makes a consumer forget the committed offsets that it was asked for and has not fetched."""
    forget: Callable[[], None] = consumer._coordinator._offset_fetch_futures.clear
    return forget


def known_partitions(consumer: KafkaConsumer) -> dict[str, frozenset[int]]:
    """Return the numbers of the partitions of each subscribed topic, as far as the client has heard of them."""
    return {topic: frozenset(numbers) for topic, numbers in consumer._coordinator._metadata_snapshot.items()}


def is_fenced(consumer: KafkaConsumer) -> bool:
    """Return whether a member takes itself for one and sends no heartbeats: it was fenced."""
    coordinator = consumer._coordinator
    return coordinator.state is MemberState.STABLE and not coordinator._heartbeat_enabled


def position_in(consumer: KafkaConsumer, partition: TopicPartition) -> Any:
    """Return a position without a request, None where it is unknown. Raises KeyError for a partition of others."""
    return consumer._subscription.assignment[partition].position


def positions_of(consumer: KafkaConsumer) -> dict[TopicPartition, Any]:
    """Return a consumer's positions in all of its partitions without a request, None where one is unknown."""
    return {partition: state.position for partition, state in dict(consumer._subscription.assignment).items()}


def resets_go_to(consumer: KafkaConsumer, note: Callable[..., None]) -> Callable[..., None]:
    """Have `note` called in place of a reset of a position, and return the reset."""
    reset: Callable[..., None] = consumer._subscription.request_offset_reset
    consumer._subscription.request_offset_reset = note
    return reset


def joins_end_in(coordinator: Any, complete: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    """Have `complete` called in place of the last step of each join, and return that step.

    Polls neither wait for a join nor start one from now on.
    """
    last = coordinator._on_join_complete_async
    coordinator._on_join_complete_async = complete
    coordinator.ensure_active_group = lambda timeout_ms=None: True
    return last


def begin_join(coordinator: Any) -> Any:
    """Start a join in the client's own thread, and return its future."""
    return coordinator._manager.call_soon(coordinator.ensure_active_group_async)


async def sleep_in_client(coordinator: Any, seconds: float) -> None:
    """Rest in the client's own thread, which goes on with everything else."""
    await coordinator._net.sleep(seconds)


def has_fetched(fetcher: Any) -> bool:
    """Return whether there is anything that was fetched and not polled."""
    return bool(fetcher._completed_fetches)


def fetches_in_flight(fetcher: Any) -> list[Any]:
    """Return the futures of the fetches that wait at brokers."""
    return list(fetcher._fetch_futures)


def forget_uncommitted(producer: KafkaProducer) -> None:
    """Forget the offsets of an aborted transaction."""
    producer._transaction_manager._pending_txn_offset_commits.clear()


def last_error(producer: KafkaProducer) -> Any:
    """Return what a transactional producer failed of, None when it has not."""
    return producer._transaction_manager._last_error


def ask(producer: KafkaProducer, step: str, *what: Any) -> Any:
    """Ask the broker for a step of a transaction, and return its result, for which one may wait for a limited time."""
    result = getattr(producer._transaction_manager, step)(*what)
    producer._sender.wakeup()
    return result


def give_up(producer: KafkaProducer) -> None:
    """Have a producer write nothing any more, not even when it is closed."""
    producer._sender.force_close()
