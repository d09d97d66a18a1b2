"""The ways to make a version smaller that a pipeline can ask for under `compress.variants`: one file each."""

from collections.abc import Mapping
from typing import Final

from headrace_learning.methods import (
    chain,
    distilled,
    float16_weights,
    gguf_blocks,
    int8_dynamic,
    int8_per_channel,
    int8_static,
    lora_adapter,
    low_rank,
    pruned,
    qat,
    weight_only,
)
from headrace_learning.methods.method import Method

STEPS: Final[Mapping[str, Method]] = {
    "int8-dynamic": int8_dynamic.METHOD,
    "float16-weights": float16_weights.METHOD,
    "weight-only-int8": weight_only.INT8,
    "weight-only-int4": weight_only.INT4,
    "int8-per-channel": int8_per_channel.METHOD,
    "int8-static": int8_static.METHOD,
    "distilled": distilled.METHOD,
    "low-rank": low_rank.METHOD,
    "pruned": pruned.METHOD,
    "qat": qat.METHOD,
}
"""The methods that a chain can have as a step, by the kind that the spec names."""
METHODS: Final[Mapping[str, Method]] = {
    **STEPS,
    "gguf-q8": gguf_blocks.Q8,
    "gguf-q4": gguf_blocks.Q4,
    "lora-adapter": lora_adapter.METHOD,
    "chain": chain.chain_of(STEPS),
}
"""All of them."""
