"""What nothing is trained on: a dataset with few rows of a class, or that teaches what it is measured by."""

from dataclasses import replace

import pytest
from headrace_model_registry.core import facts, withheld
from headrace_model_registry.core.facts.remarks import ClassRows, Leaks, Outliers
from headrace_model_registry.core.queries import ProgressBoard, status
from headrace_model_registry.transport.converters import from_log_entry, to_log_entry

FEW = ClassRows("2", "test", 3)
TAUGHT = Leaks(12, 4, ("digits:0:7 as digits:1:9",))


def asked(rules):
    """Return the salt with which a document of the world has these rules under prepare, too."""
    return {"salt": f"headrace}}, {rules}, freeze: {{afterRecords: 9"}


@pytest.mark.parametrize(
    ("rules", "remarks", "told"),
    [
        ("minClassRows: 4", {"rarest": FEW}, "at least 4 rows of each class in each split, got 3 of '2' in test"),
        ("minClassRows: 3", {"rarest": FEW}, ""),
        ("minClassRows: 4", {}, ""),
        (
            "leak: stop",
            {"leaks": TAUGHT},
            "got 12 that are there and 4 that nearly repeat one: digits:0:7 as ",
        ),
        ("leak: stop", {"leaks": Leaks(0, 0)}, ""),
        ("leak: stop", {"leaks": Leaks(0, 1)}, "got 0 that are there and 1 that nearly repeat one"),
        ("leak: report", {"leaks": TAUGHT}, ""),
        ("leak: stop", {"rarest": FEW}, ""),
        (
            "leak: stop, minClassRows: 4",
            {"rarest": FEW, "leaks": TAUGHT},
            "in test: more rows, another split, or a ",
        ),
    ],
)
def test_a_dataset_is_trained_on_unless_it_is_what_the_spec_does_not_take(story, world, ledger, rules, remarks, told):
    story = story.changed(**asked(rules))
    frozen = replace(world.frozen(story.applied), **remarks)

    decided = ledger.learn(frozen)

    shown = status(ledger.catalogue, ProgressBoard(), "digits")
    troubles = list(withheld.troubles(ledger.catalogue))
    assert shown.dataset.frozen == frozen
    assert told in shown.withheld
    assert bool(decided) == (not told) == (shown.withheld == "") == (troubles == [])
    for trouble in troubles:
        # It is about one dataset: `status` tells it, and says of no service that it does not work.
        assert (trouble.pipeline, trouble.subject) == ("digits", f"dataset {frozen.dataset_id}")
        assert trouble.reason == f"nothing is trained on it: {shown.withheld}"


def test_the_next_dataset_is_trained_on_and_a_laxer_spec_takes_the_newest_one(story, world, ledger):
    strict = story.changed(**asked("minClassRows: 4"))
    assert ledger.learn(replace(world.frozen(strict.applied), rarest=FEW)) == []
    request = strict.train(2)
    assert ledger.learn(world.failed(request)) == []
    assert ledger.learn(replace(world.frozen(strict.applied, 3), rarest=FEW)) == []

    lax = strict.changed(**asked("minClassRows: 2"))

    (wanted,) = lax.decided
    assert isinstance(wanted, facts.TrainingRequested)
    assert wanted.dataset.dataset_id == world.frozen(strict.applied, 3).dataset_id
    # Once it is trained on, a stricter spec takes nothing back.
    stricter = lax.changed(**asked("minClassRows: 9"))
    assert stricter.decided == ()
    assert status(ledger.catalogue, ProgressBoard(), "digits").withheld == ""
    assert list(withheld.troubles(ledger.catalogue)) == []


def test_what_is_said_of_a_dataset_survives_the_log(story, world, ledger):
    far = (Outliers("pixels", -1.5, 2.0, 9),)
    ledger.learn(replace(world.frozen(story.applied), rarest=FEW, leaks=TAUGHT, outliers=far))
    assert [from_log_entry(to_log_entry(entry)) for entry in ledger.log] == ledger.log
