from collections.abc import Callable
from pathlib import Path

import pytest
from headrace_data.spec import load_pipeline
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.push import answer_to, placed, to_check
from headrace_runtime.errors import InvalidInput

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "pipeline.yaml"
GOOD = b'{"id": "a", "image": "a", "pixels": [' + b",".join([b"1"] * 64) + b'], "digit": 1}'


@pytest.mark.parametrize(
    ("batch_id", "values", "message"),
    [
        ("", [GOOD], "batch_id: expected 1 to 200 characters, got 0"),
        ("x" * 201, [GOOD], "batch_id: expected 1 to 200 characters, got 201"),
        ("b1", [], "records: expected at least one record, got none"),
    ],
)
def test_a_push_that_cannot_be_taken_says_why(batch_id: str, values: list[bytes], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        to_check(batch_id, values)


def test_what_stands_beside_a_record_is_read_by_a_select(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(stream="select: $key AS id, level, CAST($headers['state'] AS BIGINT) AS state")
    contexts = [(b"a", [("state", b"7")]), (None, ())]
    taken = intake.take(to_check("b", [b'{"level": 1}', b'{"level": 2}'], contexts), numbered=True)
    assert [batch.rows.select(["id", "state"]).to_pylist() for batch in taken.batches] == [[{"id": "a", "state": 7}]]
    ((record, rejection),) = taken.rejected
    assert (rejection.position, rejection.rule, record.key) == (1, "missing", None)
    with pytest.raises(InvalidInput, match="contexts: expected none, or one for each of 1 records, got 2"):
        to_check("b", [b"{}"], contexts)


def test_pushed_rows_name_the_message_that_accepted_them() -> None:
    taken = Intake(load_pipeline(DIGITS.read_bytes()), 900_000, 1_000_000).take(
        to_check("b1", [GOOD, b"bad", GOOD]), numbered=True
    )
    answer = answer_to(taken)
    assert answer.accepted == 2
    assert [(index, rejection.rule) for index, rejection in answer.rejected] == [(1, "json")]
    (batch,) = taken.batches
    moved = placed(batch, accepted_partition=0, accepted_offset=41)
    assert (moved.partition, moved.start, moved.end) == (-1, 41, 42)
    assert moved.rows.column("_partition").to_pylist() == [-1, -1]
    assert moved.rows.column("_offset").to_pylist() == [41, 41]
    assert moved.rows.column("_index").to_pylist() == [0, 2]
    assert moved.rows.schema == batch.rows.schema
