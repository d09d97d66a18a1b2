"""A model of language: read from two kinds of files alike, packed without a difference, learned, written, rounded."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from headrace_data.canonical import sha256_digest
from headrace_data.dataset import DatasetReader
from headrace_data.folder import FileRef, Folder
from headrace_data.spec import CausalLanguageModel, TextVariant, Train, load_pipeline
from headrace_data.transforms.text import FittedLanguage
from headrace_engines import beside
from headrace_engines.adapter_files import read_adapter
from headrace_engines.adapters import base_of, merge
from headrace_engines.gguf_language import language_of
from headrace_engines.gguf_reading import read_gguf as read_metadata
from headrace_engines.gguf_tokens import TextTokens
from headrace_learning.errors import NotLearnable
from headrace_learning.families import causal_lm
from headrace_learning.families.causal_lm import CausalLanguage
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.features import Feature
from headrace_learning.heads.generation import NextToken, ServedText, counted
from headrace_learning.language_models.base import LanguageBase
from headrace_learning.language_models.gguf_files import Prompt, prompt_of, read_gguf, write_gguf
from headrace_learning.language_models.network import LEARNED, LanguageNetwork, told
from headrace_learning.language_models.words import CUTS
from headrace_learning.large import whole as whole_bytes
from headrace_learning.methods import METHODS
from headrace_learning.methods.gguf_blocks import rounded4, rounded8
from headrace_learning.methods.method import Made, NotApplicable, Source, Training
from headrace_learning.text_export import written
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows

from .test_encoder import HOSTILE, Notebook

PROMPTS = np.array(["who turns the mill?", "who?", "the river " * 9, "12 wheels"], dtype=object)
ANSWERS = np.array(["the river", "the wheel turns it, and the river the wheel", "all day", "ünïcödé 😀"], dtype=object)


class Shelf:
    """Files by digest."""

    def __init__(self, **files: bytes) -> None:
        self._files: dict[str, bytes] = {}
        named = {name.replace("__", "."): data for name, data in files.items()}
        self.document = Folder({name: FileRef(self._put(data), len(data)) for name, data in named.items()}).to_json()
        self._put(self.document)

    def _put(self, data: bytes) -> str:
        self._files[digest := sha256_digest(data)] = data
        return digest

    def read(self, digest: str, size_bytes: int) -> bytes:
        return self._files[digest]

    def section(self, **changes: Any) -> CausalLanguageModel:
        plain = {"kind": "causal-lm", "digest": sha256_digest(self.document), "size_bytes": len(self.document)}
        return CausalLanguageModel.model_validate(plain | {"length": 96} | changes)

    def base(self) -> LanguageBase:
        return LanguageBase.read(self.section(), self)


def folder_of(base: LanguageBase, **changes: Any) -> dict[str, bytes]:
    """Return the files of a model as Hugging Face has them."""
    plain = {"model_type": "llama", "hidden_act": "silu", **base.shape.config()}
    plain["rope_theta"] = plain.pop("rope_parameters")["rope_theta"]
    told = {
        "bos_token": base.words.begin,
        "eos_token": {"content": base.words.end},
        "chat_template": base.words.template,
    }
    return {
        "config__json": json.dumps(plain | changes).encode(),
        "model__safetensors": safetensors.torch.save(dict(base.tensors)),
        "tokenizer__json": base.words.tokenizer.to_str().encode(),
        "tokenizer_config__json": json.dumps(told).encode(),
    }


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shelf(tiny_gguf: Callable[..., bytes]) -> Shelf:
    return Shelf(model__gguf=tiny_gguf())


def rows_of(base: LanguageBase, length: int = 96) -> Rows:
    features = CausalLanguage(base, length).features([Feature(FittedLanguage("prompt"))])
    model = ServedText("answer", features, (), torch.nn.Identity())
    inputs = model.prepare({"prompt": PROMPTS, "answer": ANSWERS})
    return counted(inputs, torch.zeros(len(inputs)))


def test_a_folder_is_the_file_it_was_made_of(shelf: Shelf) -> None:
    base = shelf.base()
    other = Shelf(**folder_of(base)).base()
    assert other.shape == base.shape
    assert other.words == base.words
    assert all(torch.equal(base.tensors[name], each) for name, each in other.tensors.items())
    assert base.words.prompt("who?") == "<|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\n"
    assert base.words.tokenizer.decode(base.words.encoded([ANSWERS[3]])[0]) == ANSWERS[3]


def test_transformers_computes_the_same(shelf: Shelf, tmp_path: Path) -> None:
    """What is packed, masked and read of GGUF is what the library makes of one row at a time."""
    import transformers

    base = shelf.base()
    whole = transformers.LlamaForCausalLM(transformers.LlamaConfig(**base.shape.config()))
    whole.load_state_dict({**base.tensors, "lm_head.weight": base.tensors["model.embed_tokens.weight"]})
    rows, network = rows_of(base), LanguageNetwork.of(base).eval()
    with torch.no_grad():
        given = network(rows.inputs)
        for row, tokens in enumerate(rows.inputs[:, 1:]):
            own, begin = tokens[tokens >= 0].long(), int(rows.inputs[row, 0])
            logits = whole(input_ids=own.unsqueeze(0)).logits[0, begin - 1 : -1]
            nats = torch.nn.functional.cross_entropy(logits, own[begin:], reduction="sum")
            assert given[row, 0] == pytest.approx(float(nats), rel=1e-5)
            assert given[row, 1] == float((logits.argmax(dim=1) == own[begin:]).sum())
            assert rows.targets[row] == len(own) - begin


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_packed_rows_lose_what_rows_by_themselves_do(shelf: Shelf, tune: str) -> None:
    rows, network, objective = rows_of(shelf.base()), LanguageNetwork.of(shelf.base()), NextToken()
    if tune == "lora":
        network.body.embed_tokens.weight.requires_grad_(False)
    together = objective.loss(network(rows.inputs), rows.targets)
    together.backward()
    gradients = {name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None}
    network.zero_grad()
    alone = torch.cat([network(row.unsqueeze(0)) for row in rows.inputs])
    apart = objective.loss(alone, rows.targets)
    apart.backward()
    assert together.item() == pytest.approx(apart.item(), abs=1e-5)
    assert gradients
    for name, each in network.named_parameters():
        if each.grad is not None:
            torch.testing.assert_close(gradients[name], each.grad, atol=1e-5, rtol=1e-4)


def test_a_head_that_stands_still_gives_the_gradients_of_one_that_learns() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 8), torch.randn(20, 8)
    targets, upstream = torch.randint(20, (300,)), torch.randn(300)
    found = []
    for learns in (False, True):
        own = hidden.clone().requires_grad_()
        nats, _ = told(own, weight.clone().requires_grad_(learns), targets)
        nats.backward(upstream)
        found.append((nats.detach(), own.grad))
    torch.testing.assert_close(found[0], found[1])


def test_what_leaves_no_room_teaches_nothing_and_long_answers_are_cut(shelf: Shelf) -> None:
    rows = rows_of(shelf.base(), length=28)
    assert rows.targets[2] == 0  # the prompt alone is longer
    assert (rows.inputs[1, 1:] >= 0).sum() == 28
    network = LanguageNetwork.of(shelf.base())
    assert network(rows.inputs[2:3]).tolist() == [[0.0, 0.0]]
    assert NextToken().loss(network(rows.inputs[2:3]), rows.targets[2:3]).item() == 0.0


def fitted(shelf: Shelf, notebook: Notebook, epochs: int = 3, **changes: Any) -> tuple[Fitted, LanguageBase]:
    section = shelf.section(rank=2, **changes)
    family = causal_lm.FAMILY.opened(section, shelf)
    rows = rows_of(family.base)
    train = Train.model_validate(
        {"network": section.plain(), "task": "generation", "optimizer": {"learningRate": 0.01}, "batchSize": 2}
        | {"epochs": epochs}
    )
    run = Run(train, (97,), 1, "subject", notebook, notebook)
    return family.fit(section, Sources(rows, rows), NextToken(), run), family.base


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_learning_lowers_the_loss_and_a_resumed_run_is_a_straight_one(shelf: Shelf, tune: str) -> None:
    straight, halved = Notebook(), Notebook()
    once, base = fitted(shelf, straight, tune=tune)
    assert straight.losses[-1] < straight.losses[0]
    # All but the first checkpoint lost.
    fitted(shelf, halved, tune=tune, epochs=1)
    del halved.kept[1:]
    again, _ = fitted(shelf, halved, tune=tune)
    for name, each in once.network.state_dict().items():
        assert torch.equal(each, again.network.state_dict()[name]), name
    assert isinstance(once.network, LanguageNetwork)
    learned = once.network.weights()
    changed = [name for name, each in learned.items() if not torch.equal(each, base.tensors[name])]
    assert ("model.embed_tokens.weight" in changed) == (tune == "full")
    assert "model.layers.1.mlp.down_proj.weight" in changed
    family = causal_lm.FAMILY.opened(shelf.section(rank=2, tune=tune), shelf)
    assert once.parameters == family.parameters(shelf.section(rank=2, tune=tune), (97,), 1)


def test_the_file_holds_the_model(shelf: Shelf, tmp_path: Path) -> None:
    base = shelf.base()
    features = CausalLanguage(base, 96).features([Feature(FittedLanguage("prompt"))])
    model = ServedText("answer", features, (), LanguageNetwork.of(base))
    first, second = (written(model, tmp_path) for _ in range(2))
    assert first == second  # called by its digest
    shape, tensors, words = read_gguf(first.read_bytes())
    assert (shape, words) == (base.shape, base.words)
    for name, values in tensors.items():
        expected = base.tensors[name].numpy()
        assert np.array_equal(values, np.float32(np.float16(expected)) if values.ndim > 1 else expected), name
    assert {each.tensor_type.name for each in gguf.GGUFReader(first).tensors} == {"F16", "F32"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "gpt2"}, "model_type llama or qwen2, got 'gpt2'"),
        ({"hidden_act": "gelu"}, "hidden_act silu"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_type default"),
        ({"hidden_size": 2**30}, "hidden_size above 0"),
        ({"num_hidden_layers": 3}, "model.layers.2"),
        ({"vocab_size": 5}, "at most 5 tokens"),
        ({"rms_norm_eps": float("nan")}, "epsilon"),
    ],
)
def test_what_is_no_model_of_this_kind_is_refused(shelf: Shelf, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(NotLearnable, match=told):
        Shelf(**folder_of(shelf.base(), **changes)).base()


def test_damaged_files_are_refused(tiny_gguf: Callable[..., bytes]) -> None:
    whole = tiny_gguf()
    for data in (b"", b"GGUF", whole[:100], whole[: len(whole) // 2], b"ONNX" + whole[4:]):
        with pytest.raises(NotLearnable):
            Shelf(model__gguf=data).base()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}{{ messages.append(1) }}",
        "{% for a in range(999999) %}x{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% if %}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_template_runs_in_a_sandbox(shelf: Shelf, template: str) -> None:
    files = folder_of(shelf.base())
    told = json.loads(files["tokenizer_config__json"]) | {"chat_template": template}
    words = Shelf(**files | {"tokenizer_config__json": json.dumps(told).encode()}).base().words
    with pytest.raises(NotLearnable, match="chat template"):
        words.prompt("hello")


def test_weights_of_fewer_bits_are_near_and_have_a_whole_zero() -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(64, 128)).astype(np.float32)
    weights[3], weights[4], weights[5] = 0, np.abs(weights[4]), weights[5] * 1e-7
    kinds = gguf.GGMLQuantizationType
    errors = {}
    for name, rounded in (("Q8_0", rounded8), ("Q4_1", rounded4)):
        stored = rounded(weights)
        assert stored.shape == gguf.quantize(weights, kinds[name]).shape
        for own, given in ((name, stored), (f"{name} of the library", gguf.quantize(weights, kinds[name]))):
            errors[own] = float(np.sqrt(np.square(gguf.dequantize(given, kinds[name]) - weights).mean()))
    errors["Q4_0"] = float(
        np.sqrt(np.square(gguf.dequantize(gguf.quantize(weights, kinds.Q4_0), kinds.Q4_0) - weights).mean())
    )
    assert errors["Q8_0"] <= 1.01 * errors["Q8_0 of the library"]
    assert errors["Q4_1"] <= 1.05 * errors["Q4_1 of the library"] < errors["Q4_0"]
    blocks = rounded4(weights).reshape(-1, 20)
    scales, least = (blocks[:, at : at + 2].copy().view(np.float16).astype(np.float32) for at in (0, 2))
    zeros = -least / np.where(scales > 0, scales, 1)
    # Half precision leaves three digits of each.
    assert np.abs(zeros - np.rint(zeros)).max() < 0.02
    assert zeros.min() >= 0
    assert zeros.max() < 15.02


@pytest.mark.parametrize("kind", ["gguf-q8", "gguf-q4"])
def test_a_file_with_fewer_bits_says_what_it_said(tiny_gguf: Callable[..., bytes], kind: str) -> None:
    whole = tiny_gguf(**{"headrace.prompt": "question"})
    first, second = (METHODS[kind].make(Source(whole), TextVariant.model_validate({"kind": kind})) for _ in range(2))
    assert isinstance(first, Made) and first == second  # noqa: PT018 - the second narrows
    assert len(whole_bytes(first.graph)) < len(whole)
    (shape, tensors, words), (own_shape, own, own_words) = read_gguf(whole_bytes(first.graph)), read_gguf(whole)
    assert (shape, words) == (own_shape, own_words)
    assert prompt_of(first.graph).feature == "question"
    errors = {name: float(np.abs(tensors[name] - own[name]).max() / np.abs(own[name]).max()) for name in own}
    assert 0 < max(errors.values()) < (0.01 if kind == "gguf-q8" else 0.12)
    assert max(errors[name] for name in errors if "v_proj" in name or "down_proj" in name) < 0.01


ADAPTER = TextVariant(kind="lora-adapter")


def tuned(shelf: Shelf, network: torch.nn.Module, folder: Path, **changes: Any) -> Source:
    """Return what the variants of a version are made of, whose weights are a network's."""
    section = shelf.section(rank=2, **changes)
    document = f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: mill}}
stream:
  topic: mill
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: prompt, type: string, role: feature}}
    - {{name: answer, type: string, role: label}}
prepare: {{transform: {{prompt: {{encode: text}}}}}}
train: {{task: generation, network: {json.dumps(section.plain())}}}
"""
    features = causal_lm.FAMILY.opened(section, shelf).features([Feature(FittedLanguage("prompt"))])
    model = ServedText("answer", features, (), network)
    weights = safetensors.torch.save(model.weights())
    reader = cast("DatasetReader", None)  # no row is read
    training = Training(load_pipeline(document), reader, lambda: weights, shelf, folder=folder)
    return Source(written(model, folder).read_bytes(), training=training)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # of peft
def test_what_was_learned_is_an_adapter_of_what_it_began_with(shelf: Shelf, tmp_path: Path) -> None:
    import peft
    import transformers

    found, base = fitted(shelf, Notebook())
    source = tuned(shelf, found.network, tmp_path)
    first, second = (METHODS["lora-adapter"].make(source, ADAPTER) for _ in range(2))
    assert isinstance(first, Made)
    assert first == second  # called by its digest
    path = first.graph
    assert isinstance(path, Path)
    told = read_adapter(path)
    assert (told.config["r"], first.told) == (2, {"base": told.base, "rank": "2"})
    assert prompt_of(path).feature == "prompt"
    assert beside.own_bytes(path) < 0.2 * beside.total_bytes(path)

    merge(path, cast("Path", base_of(path)), tmp_path / "merged.gguf")
    own, wanted = (read_gguf(each)[1] for each in ((tmp_path / "merged.gguf").read_bytes(), whole_bytes(source.graph)))
    began = read_gguf(cast("Path", base_of(path)).read_bytes())[1]
    for name, values in wanted.items():
        assert np.abs(own[name] - values).max() <= 2e-3 * np.abs(values).max()
        assert (np.abs(values - began[name]).max() > 0) == (name.split(".")[-2] in LEARNED)

    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_model.safetensors").write_bytes(path.read_bytes())
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps(told.config))
    whole = transformers.LlamaForCausalLM(transformers.LlamaConfig(**base.shape.config()))
    whole.load_state_dict({**base.tensors, "lm_head.weight": base.tensors["model.embed_tokens.weight"]})
    loaded: Any = peft.PeftModel.from_pretrained(whole, tmp_path / "peft").merge_and_unload()
    assert isinstance(found.network, LanguageNetwork)
    for name, each in found.network.weights().items():
        torch.testing.assert_close(loaded.state_dict()[name], each, atol=1e-6, rtol=1e-5)


def test_an_adapter_of_anything_else_is_none(shelf: Shelf, tmp_path: Path) -> None:
    network = LanguageNetwork.of(shelf.base())

    def reason(source: Source) -> str:
        found = METHODS["lora-adapter"].make(source, ADAPTER)
        assert isinstance(found, NotApplicable)
        return found.reason

    plain = tuned(shelf, network, tmp_path)
    assert plain.training is not None
    assert "tune: lora" in reason(tuned(shelf, network, tmp_path, tune="full"))
    assert "its weights" in reason(replace(plain, training=replace(plain.training, weights=None)))
    assert "bytes of memory" in reason(replace(plain, training=replace(plain.training, memory_bytes=1000)))
    changed = dict(network.state_dict())
    for name, wanted in (("layers.1.mlp.up_proj", "of a low rank"), ("norm", "matrices of layers alone")):
        network.load_state_dict(changed | {f"body.{name}.weight": torch.randn(changed[f"body.{name}.weight"].shape)})
        assert wanted in reason(tuned(shelf, network, tmp_path))


@pytest.mark.parametrize("cut", CUTS)
def test_the_engine_makes_the_tokens_that_were_learned(shelf: Shelf, tmp_path: Path, cut: str) -> None:
    base = shelf.base()
    words = replace(base.words, cut=cut)
    tensors = {name: each.numpy() for name, each in base.tensors.items()}
    write_gguf(tmp_path / "model.gguf", base.shape, tensors, words, Prompt("", "", ""))
    file = read_metadata(tmp_path / "model.gguf")
    language_of(file)  # it has all that the engine asks for
    tokens = TextTokens(file)
    for text in HOSTILE:
        assert tokens.encode_after(text, 100_000) == words.encoded([text])[0], text
    assert words.places[words.end] in tokens.ends
