"""Late rows: those that come after newer ones. They are kept, and counted.

As in Kafka Streams, the watermark of a partition is the newest event time of its rows so far. A row is late when it is
older than that by more than a bound, which producers that run beside each other stay within.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from headrace_data.batches import TIME, lineage

LATE_AFTER_S: Final = 60
"""How much older than the watermark (seconds) a row may be without being late."""


class Lateness:
    """Counts late rows, and keeps the watermark of each of the producers' partitions."""

    def __init__(self) -> None:
        self.rows = 0
        """Late rows so far."""
        self.watermarks_us: dict[int, int] = {}
        """The newest event time by partition, in microseconds since 1970; none where no row has a time."""
        self._last: dict[int, int] = {}

    def add(self, batch: pa.RecordBatch) -> int:
        """Take rows, those of a partition in order, and return how many of them are late.

        Where offsets go back, the partition begins anew: its rows are read again, or its topic was made again.
        """
        before = self.rows
        partitions, offsets, _ = lineage(batch)
        times = batch.column(TIME)
        micros = times.cast(pa.int64()).fill_null(0).to_numpy()
        known = times.is_valid().to_numpy(zero_copy_only=False)
        for partition in np.unique(partitions).tolist():
            mine = partitions == partition
            if offsets[mine][0] < self._last.get(partition, 0):
                self.watermarks_us.pop(partition, None)
            self._last[partition] = int(offsets[mine][-1])
            if len(told := micros[mine & known]):
                start = self.watermarks_us.get(partition, int(told[0]))
                newest = np.maximum.accumulate(np.concatenate([[start], told]))
                self.rows += int(np.count_nonzero(newest[:-1] - told > LATE_AFTER_S * 1_000_000))
                self.watermarks_us[partition] = int(newest[-1])
        return self.rows - before
