"""Records in, records out: the loop of each pipeline, its recovery, and the dead letters of what it rejects."""
