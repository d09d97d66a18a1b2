import pyarrow as pa
import pytest
from headrace_data.repeats import Repeats
from headrace_data.spec import load_pipeline

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: twice}}
stream:
  topic: twice
  schema:
    - {{name: key, type: {type}, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: y, type: string, role: label}}
prepare:
  clean: {{duplicates: {duplicates}}}
train:
  network: {{kind: mlp, hidden: [4]}}
"""


def counted(keys: list[list[int]] | list[list[str]], most: int = 1 << 20, duplicates: str = "drop") -> int:
    kind = "string" if isinstance(keys[0][0], str) else "int64"
    repeats = Repeats(load_pipeline(DOCUMENT.format(type=kind, duplicates=duplicates)), most)
    for batch in keys:
        repeats.add(pa.RecordBatch.from_pydict({"key": batch}))
    return repeats.rows


def test_rows_with_the_key_of_another_are_counted_over_batches() -> None:
    assert counted([[f"m{number}" for number in range(60)]] * 3) == 120
    assert counted([list(range(-30, 30)), list(range(30, 60)), list(range(10))]) == 10
    assert counted([list(range(1_000))]) == 0


def test_what_is_kept_on_purpose_is_not_counted() -> None:
    assert counted([["a", "a"]], duplicates="keep") == 0


@pytest.mark.parametrize("kind", [int, str])
def test_many_keys_are_sampled_with_all_of_their_rows(kind: type) -> None:
    keys = [kind(number) for number in range(200_000)]
    once, twice = [keys[at : at + 10_000] for at in range(0, 200_000, 10_000)], [keys[:20_000]]
    assert counted(once, most=10_000) == 0
    assert counted(once + twice, most=10_000) == pytest.approx(20_000, rel=0.5)
