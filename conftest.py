"""How several processes share the tests, and the broker and the platform that tests of one process share."""

from __future__ import annotations

import gc
import json
import os
import runpy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

hypothesis.settings.register_profile("headrace", deadline=None)  # tests share the machine with others
hypothesis.settings.load_profile("headrace")

ON_THE_PLATFORM = ("tests/e2e/",)
UNITS = (
    ON_THE_PLATFORM,
    ("tests/chart/",),  # one process builds Helm where it is missing
    ("tests/contract/test_poison.py", "tests/contract/test_preprocessing"),  # they share a broker of their own
    ("tests/e2e/test_chaos.py",),
    ("tests/contract/test_swap.py",),
    ("tests/contract/foreign/",),
    ("tests/e2e/test_tutorial.py",),
    ("tests/e2e/test_permissions.py",),
    ("tests/contract/test_platform.py",),
    ("tests/contract/registry/",),
)
"""Paths whose tests stay in one process, those that take longest first. Every other file is a unit of its own,
and those of packages come last.

The longest path that fits a test counts: a file of tests/e2e that is named starts platforms of its own.
"""
KEPT_READY = 1
"""Tests that a process must know of beside the one that it runs: it keeps the fixtures that the next one needs."""


def unit(nodeid: str) -> tuple[int, str]:
    """Return the place of a test's unit in the order, and its name."""
    path = nodeid.partition("::")[0]
    fits = [(len(part), place) for place, parts in enumerate(UNITS) for part in parts if path.startswith(part)]
    if not fits:
        return len(UNITS) + (not path.startswith("tests/")), path
    place = max(fits)[1]
    return place, UNITS[place][0]


class Spread(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a process a unit as a whole, and the next one as late as it can."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)[1]

    def _reschedule(self, node: WorkerController) -> None:
        # One that is given a unit too early keeps it waiting, while another process has nothing to do.
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= KEPT_READY:
            super()._reschedule(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spread:
    """Spread the tests in this way, whatever --dist says."""
    config.option.loadscopereorder = False
    return Spread(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Give each process ports of its own: another could take one between the moment it is found and that of its use."""
    gc.disable()  # until the tests are collected, of which nothing goes: a third of the time
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        from headrace_local import ports

        share = len(ports.FREE_RANGE) // int(worker["workercount"])
        first = share * int(str(worker["workerid"]).removeprefix("gw"))
        ports.pick_from(ports.FREE_RANGE[first : first + share])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring the tests of several processes into the order of their units."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: unit(item.nodeid)[0])


def pytest_collection_finish() -> None:
    """Keep what tests import from garbage collection: each would look through a million objects of PyTorch."""
    gc.enable()
    gc.collect()
    gc.freeze()


SHARED = pytest.StashKey[list[tuple[int, ExitStack]]]()
"""What tests of one process share, and the last place in the order whose tests need it."""
Share = Callable[[str, "Platform"], "Platform"]


@pytest.fixture(scope="session")
def share(request: pytest.FixtureRequest) -> Iterator[Share]:
    """Start a platform for tests that share it: `share(path, platform)`. It stops after those of the path's unit."""
    living = request.config.stash.setdefault(SHARED, [])
    with ExitStack() as every:

        def start(path: str, platform: Platform) -> Platform:
            stack = every.enter_context(ExitStack())
            living.append((unit(path)[0], stack))
            return stack.enter_context(platform)

        yield start


@pytest.fixture(scope="session")
def platform(share: Share, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Kafka, Valkey and all six services, for the tests of tests/e2e alone."""
    from headrace_local.launcher import Platform

    # What inference keeps for two seconds would hide what befalls Valkey, which these tests are about.
    os.environ["HEADRACE_RECENT_BYTES"] = "0"
    os.environ["HEADRACE_SIGNING_KEY_FILE"] = str(_signing_key(tmp_path_factory.mktemp("keys")))
    return share(*ON_THE_PLATFORM, Platform.on_free_ports(tmp_path_factory.mktemp("platform")))


def _signing_key(folder: Path) -> Path:
    """Return a file with an operator's private key; `public.pem` beside it has the public one."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(pem, form))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "private.pem").write_bytes(private)
    return folder / "private.pem"


@pytest.fixture(scope="session")
def broker(share: Share, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Kafka with the control topics and Valkey, without services: see `bootstrap_servers` and `redis_url`.

    It is there for tests of `tests/`, not for those of packages.
    """
    from headrace_local.launcher import Platform

    return share("tests/", Platform.on_free_ports(tmp_path_factory.mktemp("broker"), services=()))


WORDS = "a the is was very not film plot song good bad fine awful great dull it and so of one two"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WIDTH, INNER = 32, 48


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as Hugging Face has it: a BERT of two layers and random weights, which knows a few words."""
    import tokenizers
    from safetensors.numpy import save_file
    from tokenizers import models, normalizers, pre_tokenizers, processors

    known = [*SPECIAL, *WORDS.split(), *LETTERS[1:], *(f"##{letter}" for letter in LETTERS), *".,!?'0123456789"]
    vocabulary = {word: place for place, word in enumerate(known)}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": INNER, "type_vocab_size": 2}
    sizes |= {"vocab_size": len(vocabulary), "hidden_size": WIDTH, "max_position_embeddings": 64}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("tiny-bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "gelu", **sizes}))
    save_file(_tiny_weights(len(vocabulary)), folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _tiny_weights(vocabulary: int) -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    rows = {"word": vocabulary, "position": 64, "token_type": 2}
    shapes = {f"embeddings.{name}_embeddings": (count, WIDTH) for name, count in rows.items()}
    norms = ["embeddings.LayerNorm"]
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        dense = [f"attention.self.{name}" for name in ("query", "key", "value")] + ["attention.output.dense"]
        shapes |= {f"{layer}.{name}": (WIDTH, WIDTH) for name in dense}
        shapes |= {f"{layer}.intermediate.dense": (INNER, WIDTH), f"{layer}.output.dense": (WIDTH, INNER)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    tensors = {f"{name}.weight": random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, (outputs, _) in shapes.items():
        if name.startswith("encoder."):
            tensors[f"{name}.bias"] = random.normal(0, 0.1, outputs).astype(np.float32)
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    return tensors


@pytest.fixture(scope="session")
def tiny_gguf() -> Callable[..., bytes]:
    """Return what writes a random model of language of a few thousand weights: see tests/tiny_language.py."""
    place = Path(__file__).parent / "tests" / "tiny_language.py"
    module = runpy.run_path(str(place))
    write: Callable[..., bytes] = module["tiny_gguf"]
    return write


@pytest.fixture(scope="session")
def tiny_adapter() -> Callable[..., bytes]:
    """Return what makes a random adapter of such a model: see tests/tiny_language.py."""
    place = Path(__file__).parent / "tests" / "tiny_language.py"
    make: Callable[..., bytes] = runpy.run_path(str(place))["tiny_adapter"]
    return make


@pytest.fixture(scope="session")
def schema_server() -> Callable[[], Any]:
    """Return what starts a small schema registry, to be closed: see tests/schema_server.py."""
    place = Path(__file__).parent / "tests" / "schema_server.py"
    start: Callable[[], Any] = runpy.run_path(str(place))["SchemaServer"]
    return start


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop what no later test shares: it would take time from these. Only where units come in their order."""
    if nextitem is None or not hasattr(item.config, "workerinput"):
        return
    for last_place, stack in item.config.stash.get(SHARED, []):
        if last_place < unit(nextitem.nodeid)[0]:
            stack.close()
