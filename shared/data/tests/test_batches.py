import pyarrow as pa
from headrace_data.batches import to_ipc


def test_a_batch_is_a_stream_of_arrows_own() -> None:
    texts = pa.array(["a", None, "ü" * 9], pa.string())
    batch = pa.record_batch({"text": texts, "list": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))})
    for each in (batch, batch.slice(1, 1), batch.slice(3)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, each.schema) as writer:
            writer.write_batch(each)
        assert to_ipc(each) == sink.getvalue().to_pybytes()
