"""vLLM in an environment of its own, with random models of language of a few thousand weights, and adapters of them."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from headrace_engines.errors import EngineError
from headrace_engines.upstream import Upstream
from headrace_runtime.object_store import digest_of
from safetensors.numpy import save, save_file
from tokenizers import decoders

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".tools" / "upstream" / "bin" / "python"
TINY = runpy.run_path(str(ROOT / "tests" / "tiny_language.py"))
CONTEXT, RANK = 2048, 4
START_S = 900.0
KEY = "a-key-of-the-test"
_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_model(folder: Path, seed: int) -> Path:
    """Write the model of `tiny_gguf` with these weights as a folder of transformers."""
    folder.mkdir(parents=True)
    tokenizer = TINY["tiny_tokenizer"]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    weights = {_name_of(name): _rounded(values) for name, values in TINY["tiny_weights"](seed, vocabulary).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    told: dict[str, dict[str, Any]] = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": TINY["WIDTH"],
            "intermediate_size": TINY["INNER"],
            "num_hidden_layers": TINY["LAYERS"],
            "num_attention_heads": TINY["HEADS"],
            "num_key_value_heads": TINY["KEY_HEADS"],
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": TINY["EPSILON"],
            "rope_parameters": {"rope_theta": TINY["BASE"], "rope_type": "default"},
            "rope_theta": TINY["BASE"],
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "hidden_act": "silu",
        },
        # What a model's folder says of choosing tokens is not what a caller here asked for.
        "generation_config.json": {"eos_token_id": 2, "temperature": 0.3, "repetition_penalty": 1.9, "top_k": 1},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": TINY["TEMPLATE"],
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONTEXT,
            **special,
        },
    }
    for name, content in told.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def adapter(seed: int) -> bytes:
    """Return an adapter of random differences as a version has it: one file that says what it is."""
    random = np.random.default_rng(seed)
    head = TINY["WIDTH"] // TINY["HEADS"]
    tensors = {}
    for layer in range(TINY["LAYERS"]):
        for name, outputs in (("q_proj", TINY["HEADS"] * head), ("v_proj", TINY["KEY_HEADS"] * head)):
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{place}.lora_A.weight"] = random.normal(0, 0.5, (RANK, TINY["WIDTH"])).astype(np.float32)
            tensors[f"{place}.lora_B.weight"] = random.normal(0, 0.5, (outputs, RANK)).astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "base_model_name_or_path": "base",
    }
    told = {"base": digest_of(b"base"), "baseBytes": 4, "prompt": {}, "config": config}
    return bytes(save(tensors, metadata={"headrace.adapter": json.dumps(told)}))


class Vllm:
    """A server of vLLM on a port. It ends with `kill`, and may be started again."""

    def __init__(self, model: Path, name: str, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.upstream = Upstream(self.url, lambda: KEY)
        self._log = log
        options = {
            "port": port,
            "served-model-name": name,
            "api-key": KEY,
            "max-model-len": CONTEXT,
            "max-num-seqs": 8,
            "max-num-batched-tokens": CONTEXT,
            "dtype": "float32",
            "max-loras": 2,
            "max-lora-rank": 8,
        }
        self._command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        self._command += ["--host", "127.0.0.1", "--enforce-eager", "--enable-lora"]
        self._command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers when `is_ready`."""
        own = {
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until it answers."""
        ends_s = time.monotonic() + START_S
        while not self.is_ready:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()[-4000:]
            assert time.monotonic() < ends_s, self._log.read_text()[-4000:]
            time.sleep(0.2)

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            self.upstream.get("/health")
        except EngineError:
            return False
        return True

    @property
    def models(self) -> set[str]:
        """The names of its models and adapters."""
        return {each["id"] for each in json.loads(self.upstream.get("/v1/models"))["data"]}

    def kill(self) -> None:
        """End it and its engine as a machine does that is switched off."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _rounded(values: Any) -> Any:
    """Return matrices as the GGUF file has them, which are 16 bits wide."""
    return values if values.ndim == 1 else values.astype(np.float16).astype(np.float32)


def _name_of(name: str) -> str:
    """Return what transformers call a tensor of a GGUF file."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, matrix, _ = name.split(".")
    return f"model.layers.{layer}.{_NAMES[matrix]}.weight"
