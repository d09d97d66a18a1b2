"""Networks of somebody's own: what may be imported, and what is told of code that does something else."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from headrace_data.spec import Train
from headrace_learning import factories
from headrace_learning.errors import NotLearnable
from headrace_learning.factories import SETTING, find_factory
from headrace_learning.families import FAMILIES, python
from headrace_learning.families.family import Fitted, Run, Sources
from headrace_learning.heads.quantile import Pinball
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.objectives import Classification, Objective, Regression
from headrace_learning.training.rows import Rows

pytestmark = pytest.mark.slow

NETS = '''
import sys
import threading
from json import loads
import torch
from torch import nn

marked = ["imported"]
counted = []


class Plain(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, rows):
        return self.layer(rows)


class Hinged(Plain):
    """Learns by a loss of its own."""

    def loss(self, answers, targets):
        truth = nn.functional.one_hot(targets, answers.shape[1]) * 2 - 1
        return torch.relu(1 - truth * answers).mean()


class Huber(Plain):
    def loss(self, answers, targets):
        return nn.functional.huber_loss(answers[:, 0], targets)


def plain(shape, outputs):
    return Plain(*shape, outputs)


def hinged(shape, outputs):
    return Hinged(*shape, outputs)


def huber(shape, outputs):
    return Huber(*shape, outputs)


def half_frozen(shape, outputs):
    module = nn.Sequential(nn.Linear(*shape, 5), nn.Linear(5, outputs))
    module[0].requires_grad_(False)
    return module


def no_module(shape, outputs):
    return "a network"


def nothing_to_learn(shape, outputs):
    return nn.Flatten()


def doubles(shape, outputs):
    return Plain(*shape, outputs).double()


def raising(shape, outputs):
    raise OSError("weights.bin is not there")


def leaving(shape, outputs):
    sys.exit(3)


def wide(shape, outputs):
    return Plain(*shape, outputs + 1)


class Late(Plain):
    def forward(self, rows):
        if self.training and len(rows) < 7:
            raise ValueError("too few of them")
        return self.layer(rows)


def late(shape, outputs):
    return Late(*shape, outputs)


class Infinite(Plain):
    def forward(self, rows):
        return self.layer(rows) * float("nan")


def infinite(shape, outputs):
    return Infinite(*shape, outputs)


class Detached(Plain):
    def forward(self, rows):
        return self.layer(rows).detach()


def detached(shape, outputs):
    return Detached(*shape, outputs)


class Branching(Plain):
    def forward(self, rows):
        return self.layer(rows) if rows.sum() > 0 else -self.layer(rows)


def branching(shape, outputs):
    return Branching(*shape, outputs)


class Centred(Plain):
    def forward(self, rows):
        return self.layer(rows - rows.mean(dim=0))


def centred(shape, outputs):
    return Centred(*shape, outputs)


class Losing(Plain):
    def loss(self, answers, targets):
        return answers


def losing(shape, outputs):
    return Losing(*shape, outputs)


class Counting(Plain):
    def forward(self, rows):
        if self.training:
            counted.append(len(rows))
        return self.layer(rows)


def counting(shape, outputs):
    return Counting(*shape, outputs)


def waiting(shape, outputs):
    threading.Event().wait()


def looping(shape, outputs):
    while True:
        try:
            loads("none")
        except Exception:
            pass


class Endless(Plain):
    def forward(self, rows):
        threading.Event().wait()


def endless(shape, outputs):
    return Endless(*shape, outputs)
'''


class Nowhere:
    """Keeps no checkpoints and tells nobody."""

    def newest(self, _subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        self.last = checkpoint

    def progress(self, *_told: object) -> None:
        pass


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the path, with another beside it; both unknown to this process again after the test."""
    for name, text in (("acme", ""), ("acme.nets", NETS), ("acmes", "raise RuntimeError('imported')")):
        path = tmp_path.joinpath(*name.split("."))
        if "." in name:
            path.with_suffix(".py").write_text(text)
        else:
            path.mkdir()
            (path / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "acme"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("acme", "acmes")]:
        del sys.modules[name]


def train_of(factory: str, **changes: Any) -> Train:
    network = {"kind": "python", "factory": factory}
    return Train.model_validate({"network": network, "epochs": 3, "batch_size": 8, **changes})


def fitted(
    factory: str,
    objective: Objective | None = None,
    packages: tuple[str, ...] = ("acme",),
    run: Nowhere | None = None,
    **changes: Any,
) -> Fitted:
    settings, book = train_of(factory, **changes), run or Nowhere()
    inputs = torch.randn(45, 4, generator=torch.Generator().manual_seed(1))
    numbers = isinstance(objective, Regression | Pinball)
    rows = Rows(inputs, inputs[:, 0] if numbers else (inputs[:, 0] > 0).long())
    told = Run(settings, (4,), 1 if numbers else 2, "what on what", book, book)
    family = FAMILIES["python"].allowing(packages)
    return family.fit(settings.network, Sources(rows, rows), objective or Classification(), told)


@pytest.mark.parametrize(
    "packages", [(), ("acm",), ("acme.other",), ("acme.nets.deeper",), ("acme_nets",)], ids=lambda names: str(names)
)
def test_nothing_is_imported_of_packages_that_are_not_allowed(packages: tuple[str, ...]) -> None:
    with pytest.raises(NotLearnable, match=rf"^train\.network\.factory acme\.nets:plain: .*{SETTING}$"):
        fitted("acme.nets:plain", packages=packages)
    with pytest.raises(NotLearnable, match=SETTING):
        FAMILIES["python"].parameters(train_of("acme.nets:plain").network, (4,), 2)
    with pytest.raises(NotLearnable, match=SETTING):
        fitted("acmes:plain", packages=("acme",))
    assert not {"acme", "acme.nets", "acmes"} & sys.modules.keys()


CASES = {
    "acme.gone:plain": "expected a module that can be imported, got ModuleNotFoundError: No module named 'acme.gone'",
    "acme.nets:gone": "expected a function that is defined in acme, got None",
    "acme.nets:loads": "expected a function that is defined in acme, got <function loads",
    "acme.nets:nn": "expected a function that is defined in acme, got <module",
    "acme.nets:marked": r"expected a function that is defined in acme, got \['imported'",
    "acme.nets:no_module": "expected it to return a torch.nn.Module, got str",
    "acme.nets:nothing_to_learn": "expected parameters to learn, of torch.float32, got none",
    "acme.nets:doubles": "expected parameters to learn, of torch.float32, got torch.float64",
    "acme.nets:raising": "expected it to return .*, got OSError: weights.bin is not there",
    "acme.nets:leaving": "expected it to return .*, got SystemExit: 3",
    "acme.nets:wide": r"expected answers \[8, 2\] torch.float32, got \[8, 3\] torch.float32",
    "acme.nets:late": r"expected answers to 5 rows of shape \[4\], got ValueError: too few of them",
    "acme.nets:infinite": "expected a finite loss before the first step, got nan",
    "acme.nets:detached": "expected a loss of 8 rows that follows from the weights, got RuntimeError",
    "acme.nets:branching": "expected a module that torch.export can follow",
    "acme.nets:centred": "expected the same answer to a row whatever rows come beside it",
    "acme.nets:losing": "expected its loss to be one number, a tensor without dimensions, got tensor",
}


@pytest.mark.parametrize("factory", CASES)
def test_what_is_wrong_is_told_before_the_first_epoch_under_the_name_of_the_factory(factory: str) -> None:
    with pytest.raises(NotLearnable, match=f"^train.network.factory {factory}: {CASES[factory]}"):
        fitted(factory)


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("acme.nets:waiting", "expected it to return when it is told shape, outputs"),
        ("acme.nets:looping", "expected it to return when it is told shape, outputs"),
        ("acme.nets:endless", "expected one step and the graph of it"),
        ("acme.stuck:plain", "expected a module that can be imported"),
    ],
)
def test_what_hangs_is_ended_and_told_of(
    factory: str, expected: str, acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (acme / "stuck.py").write_text("import threading\n\nthreading.Event().wait()\n")
    fitted("acme.nets:plain")
    monkeypatch.setattr(factories, "MOST_S", 0.2)
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    with pytest.raises(
        NotLearnable, match=f"^train.network.factory {factory}: {expected}, got none within 0.2 seconds$"
    ):
        fitted(factory)
    # Whoever had the timer before has it again.
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (left > 0)


@pytest.mark.parametrize(("batch_size", "tried"), [(40, [16, 5]), (28, [16]), (9, [9])])
def test_a_network_is_tried_on_few_rows_however_large_a_batch_is(
    batch_size: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "_TRIED", 16)
    fitted("acme.nets:counting", batch_size=batch_size, epochs=1)
    counted = sys.modules["acme.nets"].counted
    assert counted[: len(tried)] == tried
    assert counted[len(tried)] == batch_size


def test_a_module_that_does_not_import_is_told_of_by_its_own_words(acme: Path) -> None:
    (acme / "nets.py").write_text("import acme.never_there")
    with pytest.raises(NotLearnable, match=r"got ModuleNotFoundError: No module named 'acme\.never_there'"):
        fitted("acme.nets:plain")


def test_a_package_within_an_archive_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ZipFile(tmp_path / "nets.zip", "w") as archive:
        archive.writestr("zipped_nets.py", "def plain(shape, outputs):\n    return None\n")
    monkeypatch.syspath_prepend(str(tmp_path / "nets.zip"))
    with pytest.raises(
        NotLearnable, match=r"zipped_nets:plain: expected zipped_nets in files of its own, .* got NotADi"
    ):
        find_factory("zipped_nets:plain", ["zipped_nets"]).source_digest()


def test_a_loss_of_its_own_is_what_is_lowered_and_told() -> None:
    own, task = fitted("acme.nets:hinged"), fitted("acme.nets:plain")
    assert own.outcome.best_loss != task.outcome.best_loss
    assert 0 < own.outcome.best_loss < 1.2
    assert fitted("acme.nets:huber", Regression(2.0)).outcome.best_loss > 0
    with pytest.raises(NotLearnable, match=r"expected train\.classWeights none beside a loss of its own"):
        fitted("acme.nets:hinged", Classification(torch.ones(2)))
    with pytest.raises(
        NotLearnable, match=r"huber: expected a loss of its own with train\.task classification or regre"
    ):
        fitted("acme.nets:huber", Pinball((0.5,), 1.0, torch.zeros(1)))


def test_what_is_frozen_stays_as_it_was_made() -> None:
    settings: dict[str, Any] = {"optimizer": {"kind": "adamw", "weight_decay": 0.1}, "seed": 3}
    one, other = (fitted("acme.nets:half_frozen", epochs=epochs, **settings) for epochs in (1, 3))
    assert one.parameters == other.parameters == 12
    before, after = one.network.state_dict(), other.network.state_dict()
    assert torch.equal(before["module.0.weight"], after["module.0.weight"])
    assert not torch.equal(before["module.1.weight"], after["module.1.weight"])


def test_checkpoints_are_of_the_source_files_that_made_them(acme: Path) -> None:
    first, again, other = Nowhere(), Nowhere(), Nowhere()
    one = fitted("acme.nets:plain", run=first)
    fitted("acme.nets:plain", run=again)
    (acme / "nets.py").write_text(NETS + "\n# another release\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]
    changed = fitted("acme.nets:plain", run=other)
    assert first.last.subject == again.last.subject != other.last.subject
    assert one.sources.keys() == changed.sources.keys() == {"acme"}
    assert one.sources != changed.sources
    assert "onnxscript" in one.libraries
