"""When a part that failed runs again."""

from __future__ import annotations

from headrace_runtime.stream.recovery import FIRST_PAUSE_S, LONGEST_PAUSE_S, WELL_AFTER_S, Recovery


def test_rests_grow_until_the_part_has_worked_for_a_while() -> None:
    now = [0.0]
    recovery = Recovery(lambda: now[0])
    assert not recovery.recovered(), "what never failed has nothing to recover from"
    pauses = [recovery.failed() for _ in range(9)]
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    now[0] += LONGEST_PAUSE_S + WELL_AFTER_S - 0.1
    assert not recovery.recovered()
    now[0] += 0.2
    assert recovery.recovered()
    assert not recovery.recovered(), "it is told once"
    assert recovery.failed() == FIRST_PAUSE_S
