"""The card of slices on a version's page."""

from headrace_client.report.slices import slices_card
from headrace_data.tasks import TASKS

TASK = TASKS["classification"]
SLICED = {"slice/island=Dream/rows": 31.0, "slice/island=Dream/accuracy": 0.9, "slice/island=Dream/recall": 0.8}


def test_slices_are_a_table_the_worst_first() -> None:
    biscoe = {"slice/island=Biscoe/rows": 9.0, "slice/island=Biscoe/accuracy": 0.5}
    (card,) = slices_card({"accuracy": 0.7, **SLICED, **biscoe}, TASK, TASK.measures["accuracy"])

    text = str(card)
    assert "Parts of the test split, the worst first." in text
    assert text.index("island=Biscoe") < text.index("50.0%") < text.index("island=Dream") < text.index("90.0%")
    assert text.index("accuracy") < text.index("recall")
    assert "precision" not in text


def test_a_version_without_slices_has_no_card() -> None:
    assert list(slices_card({"accuracy": 0.7, "accuracy/Dream": 0.9}, TASK, TASK.headline)) == []
