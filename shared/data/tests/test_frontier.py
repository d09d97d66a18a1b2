"""Which of several variants no other outdoes."""

from headrace_data.frontier import COSTS, frontier
from headrace_data.tasks import TASKS

ACCURACY, RMSE = TASKS["classification"].headline, TASKS["regression"].headline
SAME = dict.fromkeys(COSTS, 1.0)


def test_what_another_outdoes_is_left_out() -> None:
    variants = {
        "fp32": SAME | {"accuracy": 0.9},
        "better": SAME | {"accuracy": 0.95},
        "equal": SAME | {"accuracy": 0.95},
        "worse": SAME | {"accuracy": 0.8},
        **{f"less {name}": SAME | {"accuracy": 0.8, name: 0.5} for name in COSTS},
    }
    assert frontier(variants, ACCURACY) == ["better", "equal", *(f"less {name}" for name in COSTS)]


def test_of_an_error_less_is_better() -> None:
    assert frontier({"a": SAME | {"rmse": 2.0}, "b": SAME | {"rmse": 1.0}}, RMSE) == ["b"]


def test_what_was_not_measured_of_each_is_left_aside() -> None:
    old = {"size_bytes": 2.0, "accuracy": 0.9}
    assert frontier({"old": old, "new": SAME | {"accuracy": 0.9}}, ACCURACY) == ["new"]
    assert frontier({"old": old, "new": SAME}, ACCURACY) == ["old", "new"]
    assert frontier({}, ACCURACY) == []
