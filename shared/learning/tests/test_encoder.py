"""BERT over a text: tuned in three ways, and answered by the graph as transformers answers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from headrace_data.canonical import sha256_digest
from headrace_data.folder import FileRef, Folder
from headrace_data.spec import Augment, EncoderNetwork, Train
from headrace_data.transforms import FittedTransform
from headrace_data.transforms.text import FittedLanguage
from headrace_engines.properties import Tokenised
from headrace_engines.tokens import Tokenizer
from headrace_learning.building import LabelScale
from headrace_learning.errors import ExportMismatch, NotLearnable
from headrace_learning.evaluation import open_graph
from headrace_learning.export import export_graph
from headrace_learning.families import FAMILIES
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.families.token_dropout import with_hidden
from headrace_learning.features import Feature
from headrace_learning.large import structure_of, whole
from headrace_learning.served import ServedClassifier, ServedModel, ServedRegressor
from headrace_learning.training.checkpoint import Checkpoint, from_bytes, to_bytes
from headrace_learning.training.objectives import Classification, Objective, Regression
from headrace_learning.training.randomness import make_deterministic
from headrace_learning.training.rows import Rows, Source, joined

from .variant_sections import SECTIONS, graph_of

pytestmark = pytest.mark.slow

TUNES = ("full", "lora", "frozen")
SCALE = LabelScale(20.0, 5.0)
Names = tuple[str, ...]
ONE, PAIR = ("review",), ("review", "reply")
HOSTILE = [
    *("", " ", "good", "good " * 500, "x" * 100_000, "\u0000\u0007", "ünïcödé ﬁne", "😀 not bad", "\ufeffgood"),
    *("[PAD] [SEP] [CLS] [MASK]", "a\u0301 e\u0301", "नमस्ते good", "\u202egood", "日本語", "good\nbad\tfine", "'" * 90),
]


class Shelf:
    """Files by digest."""

    def __init__(self, folder: Path, **replaced: bytes) -> None:
        self._files: dict[str, bytes] = {}
        files = {path.name: replaced.get(path.stem, path.read_bytes()) for path in folder.iterdir()}
        self.document = Folder(
            {name: FileRef(self._put(data), len(data)) for name, data in files.items() if data}
        ).to_json()
        self._put(self.document)

    def _put(self, data: bytes) -> str:
        self._files[digest := sha256_digest(data)] = data
        return digest

    def read(self, digest: str, size_bytes: int) -> bytes:
        return self._files[digest]

    def section(self, **changes: Any) -> EncoderNetwork:
        plain = {"kind": "encoder", "digest": sha256_digest(self.document), "size_bytes": len(self.document)}
        return EncoderNetwork.model_validate(plain | {"length": 12} | changes)


@dataclass
class Notebook:
    """Keeps a checkpoint whenever it is asked whether one is due, as bytes."""

    kept: list[tuple[bytes, bytes]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def newest(self, subject: str) -> Checkpoint | None:
        return from_bytes(*self.kept[-1]) if self.kept else None

    def due(self, *, midway: bool) -> bool:
        return True

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(to_bytes(checkpoint))

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.losses.append(metrics["validation_loss"])


class Streamed:
    """Rows that come anew in each epoch."""

    def __init__(self, rows: Rows) -> None:
        self.batches = rows.batches
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def chunks(self) -> Iterator[Rows]:
        half = len(self) // 2
        for part in (slice(None, half), slice(half, None)):
            yield Rows(self._rows.inputs[part], self._rows.targets[part])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    make_deterministic()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads)


@pytest.fixture
def shelf(tiny_bert: Path) -> Shelf:
    return Shelf(tiny_bert)


def reviews(rows: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Texts, and how often they praise less how often they blame."""
    random = np.random.default_rng(seed)
    good, bad = ("good", "great", "fine"), ("bad", "awful", "dull")
    words = np.array(["a", "the", "is", "was", "film", "plot", "song", "it", "and", *good, *bad])
    chosen = [random.choice(words, random.integers(3, 14)).tolist() for _ in range(rows)]
    marks = [sum(map(one.count, good)) - sum(map(one.count, bad)) for one in chosen]
    return np.array([" ".join(one) for one in chosen], dtype=object), np.array(marks)


def model_of(
    shelf: Shelf, section: EncoderNetwork, network: torch.nn.Module, answers: int | LabelScale, names: Names = ONE
) -> ServedModel:
    family = FAMILIES["encoder"].opened(section, shelf)
    features = family.features([Feature(FittedLanguage(name)) for name in names])
    if isinstance(answers, LabelScale):
        return ServedRegressor(features, family.input_shape(features), network, answers.mean, answers.deviation)
    return ServedClassifier(features, family.input_shape(features), network)


def fitted(
    shelf: Shelf,
    section: EncoderNetwork,
    notebook: Notebook,
    objective: Objective | None = None,
    rows: type[Streamed] | None = None,
    augment: Augment | None = None,
    names: Names = ONE,
) -> Fitted:
    objective = objective or Classification()
    sources: list[Source] = []
    for count, seed in ((120, 1), (40, 2)):
        texts, marks = reviews(count, seed)
        columns = {"review": texts, "reply": texts[::-1]}
        inputs = model_of(shelf, section, torch.nn.Identity(), 3, names).prepare(columns)
        classes = torch.from_numpy(np.clip(marks, -1, 1) + 1)
        whole = Rows(inputs, classes if isinstance(objective, Classification) else torch.from_numpy(marks).float() / 5)
        sources.append(rows(whole) if rows else whole)
    rate = {"full": 0.002, "lora": 0.01, "frozen": 0.05}[section.tune]
    train = Train.model_validate(
        {"network": section, "epochs": 3, "batch_size": 16, "seed": 5, "optimizer": {"learning_rate": rate}}
        | {"augment": augment}
    )
    outputs = 3 if isinstance(objective, Classification) else 1
    run = Run(train, (section.length * len(names),), outputs, "what on what", notebook, notebook)
    return FAMILIES["encoder"].opened(section, shelf).fit(section, Sources(*sources), objective, run)


@pytest.mark.parametrize("tune", TUNES)
def test_it_learns_the_same_bytes_again_and_from_any_checkpoint(shelf: Shelf, tune: str) -> None:
    section, straight = shelf.section(tune=tune, rank=2), Notebook()
    first = fitted(shelf, section, straight)
    weights = first.weights(model_of(shelf, section, first.network, 3))
    assert first.outcome.best_loss == min(straight.losses) < straight.losses[0]
    for done in (0, 3, len(straight.kept) - 2):
        again = fitted(shelf, section, Notebook(straight.kept[:done]))
        assert again.weights(model_of(shelf, section, again.network, 3)) == weights, done
        assert again.outcome == first.outcome


def test_texts_with_hidden_tokens_are_learned_alike_again_and_from_a_checkpoint(shelf: Shelf) -> None:
    section, straight, augment = shelf.section(rank=2), Notebook(), Augment(token_dropout=0.3)

    def weights(notebook: Notebook, augment: Augment | None) -> bytes:
        found = fitted(shelf, section, notebook, augment=augment)
        return found.weights(model_of(shelf, section, found.network, 3))

    first = weights(straight, augment)
    assert weights(Notebook(straight.kept[:4]), augment) == first
    assert first not in (weights(Notebook(), None), weights(Notebook(), Augment(token_dropout=0.2)))


def test_a_share_of_the_tokens_is_hidden_and_nothing_around_them(shelf: Shelf) -> None:
    section = shelf.section(length=40)
    base = FAMILIES["encoder"].opened(section, shelf).base  # type: ignore[attr-defined]
    tokenizer = Tokenizer(Tokenised(length=40, tokenizer=base.tokenizer))
    inputs = model_of(shelf, section, torch.nn.Identity(), 3).prepare({"review": reviews(400, 1)[0]})
    given = Rows(inputs, torch.arange(400))
    source = with_hidden(given, 0.2, tokenizer)

    def read(epoch: int, size: int = 64) -> torch.Tensor:
        return joined(source.batches(size, 7, epoch)).inputs

    order = joined(given.batches(64, 7, 1)).targets
    plain, found = inputs[order], read(1)
    words = (plain >= 0) & ~torch.isin(plain, torch.tensor(tokenizer.frame).float())
    assert torch.equal(found[~words], plain[~words])
    changed = found != plain
    assert set(found[changed].tolist()) == {tokenizer.number("[MASK]")}
    assert 0.17 < float(changed.sum() / words.sum()) < 0.23
    assert torch.equal(read(1), found)
    assert not torch.equal(read(2)[joined(given.batches(64, 7, 2)).targets.argsort()], found[order.argsort()])
    assert next(source.chunks()) is given


def test_a_tokenizer_without_a_token_for_it_is_told(shelf: Shelf) -> None:
    class Bare(Tokenizer):
        def number(self, token: str) -> None:
            return None

    base = FAMILIES["encoder"].opened(shelf.section(), shelf).base  # type: ignore[attr-defined]
    tokenizer = Bare(Tokenised(length=12, tokenizer=base.tokenizer))
    with pytest.raises(NotLearnable, match=r"tokenDropout: expected a tokenizer with \[MASK\] or \[UNK\]"):
        with_hidden(Rows(torch.zeros(2, 12), torch.zeros(2)), 0.1, tokenizer)


@pytest.mark.parametrize("tune", TUNES)
def test_only_what_is_tuned_is_learned_and_kept(shelf: Shelf, tiny_bert: Path, tune: str) -> None:
    section, notebook = shelf.section(tune=tune, rank=2), Notebook()
    found = fitted(shelf, section, notebook)
    family = FAMILIES["encoder"].opened(section, shelf)
    held = sum(tensor.numel() for tensor in from_bytes(*notebook.kept[-1]).weights.values())
    expected = {"full": 0, "lora": 2 * 2 * 2 * 2 * 32 + 99, "frozen": 99}[tune]
    if tune == "full":
        expected = 99 + sum(each.numel() for each in family.opened(section, shelf).base.tensors.values())  # type: ignore[attr-defined]
    assert found.parameters == family.parameters(section, (12,), 3) == expected == held


@pytest.mark.parametrize("names", [ONE, PAIR])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_graph_answers_as_transformers_does_whatever_comes(
    shelf: Shelf, tiny_bert: Path, pooling: str, names: Names
) -> None:
    from transformers import BertModel, PreTrainedTokenizerFast

    section = shelf.section(tune="frozen", pooling=pooling, length=16, embedding=True)
    network: Any = fitted(shelf, section, Notebook(), names=names).network
    texts = np.array([*HOSTILE, *reviews(50, 3)[0]], dtype=object)
    columns = {name: np.roll(texts, 5 * place) for place, name in enumerate(names)}
    exported = export_graph(model_of(shelf, section, network, 3, names), ["bad", "so", "good"], columns)
    model = open_graph(exported.data)
    told = [(each.name, each.dtype, each.shape) for each in model.inputs]
    assert told == [(name, np.dtype(object), ("batch",)) for name in names]
    assert [(each.name, each.shape) for each in model.outputs] == [
        ("probabilities", ("batch", 3)),
        ("label", ("batch",)),
        ("embedding", ("batch", 32)),
    ]
    given, embeddings = model.run(columns, ["probabilities", "embedding"])

    reference = BertModel.from_pretrained(tiny_bert, add_pooling_layer=False).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny_bert / "tokenizer.json"), pad_token="[PAD]")
    read = tokenizer(
        *(each.tolist() for each in columns.values()),
        truncation=True,
        max_length=16,
        padding=True,
        return_tensors="pt",
        return_token_type_ids=True,
    )
    with torch.no_grad():
        hidden = reference(**read).last_hidden_state
        mask = read["attention_mask"].unsqueeze(2)
        pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        expected = torch.softmax(network.head(pooled), dim=1).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(embeddings, torch.nn.functional.normalize(pooled).numpy(), atol=1e-5)
    rows = [{name: each[place : place + 1] for name, each in columns.items()} for place in range(len(texts))]
    alone = [model.run(row, ["probabilities"])[0] for row in rows]
    np.testing.assert_allclose(np.concatenate(alone), given, atol=1e-5)


@pytest.mark.parametrize(
    ("tune", "names"), [("full", ONE), ("full", PAIR), ("lora", ONE), ("lora", PAIR), ("frozen", ONE)]
)
def test_what_was_tuned_is_what_is_served(shelf: Shelf, tune: str, names: Names) -> None:
    section = shelf.section(tune=tune)
    columns = {name: reviews(60, 4 + place)[0] for place, name in enumerate(names)}
    for answers, objective in ((3, Classification()), (SCALE, Regression(SCALE.deviation))):
        network = fitted(shelf, section, Notebook(), objective, names=names).network
        model = model_of(shelf, section, network, answers, names)
        # Compares the graph with the network, and raises where they differ.
        exported = export_graph(model, [0, 1, 2] if answers == 3 else [], columns)
        again = export_graph(
            model, [0, 1, 2] if answers == 3 else [], {name: each[:3] for name, each in columns.items()}
        )
        assert exported.data == again.data
        held = [each.name for each in structure_of(exported.data).graph.initializer]
        assert "weights/network.encoder.layer.1.query.weight" in held


def test_a_frozen_one_reads_rows_that_are_streamed(shelf: Shelf) -> None:
    section = shelf.section(tune="frozen")
    held, streamed = (fitted(shelf, section, Notebook(), rows=rows) for rows in (None, Streamed))
    assert streamed.outcome.best_loss == pytest.approx(held.outcome.best_loss, rel=1e-4)


def test_a_text_that_may_be_missing_is_what_stands_for_it(shelf: Shelf) -> None:
    section = shelf.section(tune="frozen")
    family = FAMILIES["encoder"].opened(section, shelf)
    features = family.features([Feature(FittedLanguage("review", "good film"))])
    model = ServedClassifier(features, (12,), fitted(shelf, section, Notebook()).network)
    graph = open_graph(export_graph(model, [0, 1, 2], {"review": np.array(["", "bad"], dtype=object)}).data)
    assert graph.inputs[0].optional
    answers = graph.run({"review": np.array(["", "good film", "film"], dtype=object)}, ["probabilities"])[0]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    assert np.abs(answers[0] - answers[2]).max() > 1e-4


def test_embeddings_stand_beside_a_number_and_are_compared_as_it_is(shelf: Shelf) -> None:
    section = shelf.section(tune="frozen", embedding=True)
    network: Any = fitted(shelf, section, Notebook(), Regression(SCALE.deviation)).network
    model, texts = model_of(shelf, section, network, SCALE), {"review": reviews(60, 4)[0]}
    graph = open_graph(export_graph(model, [], texts).data)
    assert [each.name for each in graph.outputs] == ["prediction", "embedding"]
    network.beside = lambda _: {"embedding": torch.full((60, 32), torch.nan)}
    with pytest.raises(ExportMismatch):
        export_graph(model, [], texts)


def test_weights_of_eight_bits_apply(shelf: Shelf) -> None:
    section = shelf.section(tune="frozen", embedding=True)
    model = model_of(shelf, section, fitted(shelf, section, Notebook()).network, 3)
    texts = {"review": reviews(60, 4)[0]}
    exported = whole(export_graph(model, ["a", "b", "c"], texts).data)
    for kind in SECTIONS.keys() - {"chain", "distilled", "low-rank", "pruned", "qat", "weight-only-int4"}:
        smaller = graph_of(kind, exported, texts)
        assert len(smaller) < len(exported)
        (given,), (expected,) = (open_graph(each).run(texts, ["probabilities"]) for each in (smaller, exported))
        assert np.abs(given - expected).max() < 0.1
        assert [replace(each, depends=False) for each in open_graph(smaller).outputs] == [*open_graph(exported).outputs]


BROKEN = [
    ({"config": b'{"model_type": "gpt2"}'}, "expected config.json of model_type bert, got 'gpt2'"),
    ({"config": b"[]"}, "expected config.json of model_type bert, got None"),
    ({"config": b"{"}, "expected config.json and tokenizer.json as JSON"),
    ({"config": b""}, "expected a folder with config.json, got one with model.safetensors, tokenizer.json"),
    ({"model": b"\x80\x04K\x01."}, "expected safetensors as model.safetensors"),
    ({"tokenizer": b"{}"}, "expected a tokenizer as tokenizer.json has it, got"),
]


@pytest.mark.parametrize(("replaced", "reason"), BROKEN)
def test_a_folder_that_is_no_bert_is_told(tiny_bert: Path, replaced: dict[str, bytes], reason: str) -> None:
    shelf = Shelf(tiny_bert, **replaced)
    with pytest.raises(NotLearnable, match=reason):
        FAMILIES["encoder"].opened(shelf.section(), shelf).features([Feature(FittedLanguage("review"))])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("hidden_size", 64, r"word_embeddings.weight of shape \[\d+, 64\], as config.json says, got \[\d+, 32\]"),
        ("num_hidden_layers", 10_000_000, "encoder.layer.9999999.output.dense.weight of shape .* got none"),
        ("num_hidden_layers", True, "expected num_hidden_layers above 0 in config.json, got True"),
        ("num_attention_heads", 5, "expected hidden_size in equal parts for the heads"),
        ("hidden_act", "swish", "expected hidden_act among gelu, relu in config.json, got 'swish'"),
        ("hidden_dropout_prob", 3, "expected hidden_dropout_prob from 0 to 1 in config.json, got 3"),
        ("position_embedding_type", "rotary", "expected absolute positions in config.json, got 'rotary'"),
    ],
)
def test_sizes_that_the_weights_have_not_are_told(tiny_bert: Path, name: str, value: object, reason: str) -> None:
    config = json.loads((tiny_bert / "config.json").read_text()) | {name: value}
    shelf = Shelf(tiny_bert, config=json.dumps(config).encode())
    with pytest.raises(NotLearnable, match=reason):
        FAMILIES["encoder"].opened(shelf.section(), shelf)


def test_what_it_cannot_read_is_told(shelf: Shelf, tiny_bert: Path) -> None:
    family = FAMILIES["encoder"].opened(shelf.section(), shelf)
    number = Feature(FittedTransform("x", "none", np.array(0.0), np.array(1.0)), "float32")
    expected = r"one feature or two, each a text with encode: text, got "
    with pytest.raises(NotLearnable, match=expected + r"x \(none\)"):
        family.features([number])
    with pytest.raises(NotLearnable, match=expected + r"a \(text\), b \(text\), c \(text\)"):
        family.features([Feature(FittedLanguage(name)) for name in "abc"])
    config = json.loads((tiny_bert / "config.json").read_text()) | {"type_vocab_size": 1}
    tensors = safetensors.torch.load((tiny_bert / "model.safetensors").read_bytes())
    tensors["embeddings.token_type_embeddings.weight"] = tensors["embeddings.token_type_embeddings.weight"][:1].clone()
    one_kind = Shelf(tiny_bert, config=json.dumps(config).encode(), model=safetensors.torch.save(tensors))
    family = FAMILIES["encoder"].opened(one_kind.section(), one_kind)
    with pytest.raises(
        NotLearnable, match="expected a model that tells two texts apart, with type_vocab_size 2, got 1"
    ):
        family.features([Feature(FittedLanguage(name)) for name in PAIR])
    with pytest.raises(NotLearnable, match="expected at most 64 tokens, got 65"):
        FAMILIES["encoder"].opened(shelf.section(length=65), shelf)
