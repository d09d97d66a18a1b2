"""The page of a version: how it learned, how right it is, its variants and gates, and where it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from headrace_data.spec import REFERENCE_VARIANT
from headrace_data.tasks import TASKS, TREES, Measure, Task, at_least, of_part, of_slice

from headrace_client.costs import cost_text, cpu_text
from headrace_client.report import page
from headrace_client.report.by_cut import by_cut_cards
from headrace_client.report.charts import (
    histogram_chart,
    lines_chart,
    matrix_chart,
    reliability_chart,
    scatter_chart,
)
from headrace_client.report.facts import Answers, Estimates, Tags, Texts, VersionFacts, class_name
from headrace_client.report.held import held_section, held_tile
from headrace_client.report.markup import Html, counted, element, joined, moment
from headrace_client.report.measures import calibration_error, confusion, figure, histogram, reliability, thinned
from headrace_client.report.places import places_cards, tags_cards
from headrace_client.report.slices import slices_card
from headrace_client.report.svg import cut, readable
from headrace_client.report.variants import figure_text, title_of, variants_cards
from headrace_client.trials import HEADS, trial_rows
from headrace_client.views import View, short_id

MOST_CLASSES: Final = 20
"""Classes whose confusion matrix is drawn; of more, the pairs that are mixed up most are listed."""
_MOST_PAIRS: Final = 10
_MOST_FEATURES: Final = 20
_MOST_POINTS: Final = 1_500
_MOST_TRIALS: Final = 50
_SEARCHED: Final = "What was tried, and the least loss of each on the validation split; the test split chose nothing."
_NEW_ROWS: Final = "What was served, scored on the rows of each cut before anything learned from them; the latest cuts."
_TILES: Final = 3
"""Measures that have a tile."""
_STATES: Final = {"released": "good", "refused": "bad"}
_SHOWN: Final = 20
"""Letters of a class in a tile."""
_NOTHING: Final = "\N{EN DASH}"


def version_page(facts: VersionFacts) -> str:
    """Return the report of a version as an HTML document."""
    version = facts.version
    variants = variants_cards(version, facts.release, _measure(facts))
    parts: list[tuple[str, str, Html]] = [
        ("Learning", "What was measured after each epoch.", _learning(facts)),
        *([("Search", _SEARCHED, _trials(facts))] if version.get("trials") else []),
        ("Answers", _answers_lead(facts), _answers(facts)),
        ("Variants", "Smaller forms of the version: the best is fast, small and right.", variants),
        ("Gates", "What a variant must reach to be served, each measured against fp32.", _gates(facts)),
        *([("New rows", _NEW_ROWS, by_cut_cards(facts.evaluations, facts.decisions))] if facts.evaluations else []),
        *held_section(facts.held),
        ("Lineage", "What led to this version, back to the producers' offsets.", _lineage(facts)),
    ]
    sections = [page.Section(title, lead, body) for title, lead, body in parts]
    state = version["state"]
    title = joined(f"{version['model']}, version {version['ordinal']} ", page.badge(state, _STATES.get(state, "")))
    reason = f"{version['reason']}. " if version["reason"] else ""
    lead = joined(reason, "Its id: ", page.identity(version["version_id"]))
    return page.page(title, "Model version", lead, [*_tiles(facts), *held_tile(facts.held)], sections)


def _tiles(facts: VersionFacts) -> Iterator[page.Tile]:
    metrics = facts.version["metrics"]
    told = f"on {counted(_test_rows(facts), 'test row')}{_beside(facts)}"
    task = _task(facts)
    known = _measure(facts)
    for measure in [known, *(each for each in task.measured if each is not known)][:_TILES]:
        note = told if measure is known else measure.note
        yield page.Tile(measure.title, figure(measure, metrics.get(measure.name, float("nan"))), note)
    epochs, best = facts.version["epochs"], facts.manifest.get("best_epoch")
    yield page.Tile("epochs", str(epochs), f"best after {best}" if best else "")
    if facts.version.get("cpu_s"):
        memory = f"{facts.version['peak_memory_bytes'] / 1e6:,.0f} MB"
        yield page.Tile("processor time", cpu_text(facts.version), f"to train, in {memory} of memory")
    if facts.version.get("gpu_s"):
        yield page.Tile("GPU time", f"{facts.version['gpu_s']:.3g} s", "for which training held a GPU")
    if cost := cost_text(facts.version):
        yield page.Tile("cost", cost, "to train, by the trainer's prices")
    if spent := facts.version.get("privacy"):
        note = f"at most, of one row that it learned from; delta {spent['delta']:.2g}"
        yield page.Tile("epsilon", f"{spent['epsilon']:.3g}", note)
    if (threshold := facts.manifest.get("threshold")) is not None:
        yield page.Tile("threshold", f"{threshold:.3f}", "chosen on the validation split")
    if (trees := facts.version["metrics"].get(f"{TREES}{known.name}")) is not None:
        yield page.Tile("trees", figure(known, trees), f"{known.title} of trees of default size on the same rows")
    yield page.Tile("parameters", f"{facts.manifest.get('parameters', 0):,}", "numbers learnt")
    if facts.release:
        yield page.Tile("served as", facts.release["variant"], f"release {facts.release['epoch']}")
    else:
        yield page.Tile("served as", _NOTHING, "not released")


def _task(facts: VersionFacts) -> Task:
    return TASKS[facts.version["task"]]


def _measure(facts: VersionFacts) -> Measure:
    """Return the measure that the pipeline compares versions by."""
    return _task(facts).measure(facts.version["measure"])


def _beside(facts: VersionFacts) -> str:
    """Return what always the same answer would score; empty for a version of which that was not measured."""
    judge = _task(facts).judged_by(_measure(facts))
    found = _task(facts).baseline(facts.version["metrics"], judge)
    if found is None:
        return ""
    always = found.always
    if found.answer is not None:
        flag = isinstance(facts.answers, Answers) and facts.answers.flag
        always = f"always '{cut(class_name(found.answer, flag=flag), _SHOWN)}'"
    of = "" if judge is _measure(facts) else f" by {judge.title}"
    told = f"; {always} would be {figure(found.measure, found.value)}{of}"
    own = f", and it is {figure(found.measure, found.measured)}" if of else ""
    return f"{told}{own}: no better than that" if found.no_better else told


def _trials(facts: VersionFacts) -> Html:
    trials = facts.version["trials"]
    rows = trial_rows(trials, _MOST_TRIALS)
    note = "" if len(rows) == len(trials) else f"The best {len(rows)} of {len(trials)}."
    return page.cards(page.card("Trials", page.table(HEADS, rows, numbers=(0, 2, 3)), note=note, wide=True))


def _learning(facts: VersionFacts) -> Html:
    if not facts.curve:
        return page.cards(page.card("No curve was kept", note="The run is older than learning curves.", wide=True))
    names = [name for name in facts.curve[0] if name != "epoch"]
    losses = [name for name in names if name.endswith("_loss")]
    best = facts.manifest.get("best_epoch")
    told = f"The dashed line is epoch {best}, whose weights were kept." if best else ""
    inner = [page.card("Loss", _curve(facts, losses, "loss", best), note=told)] if losses else []
    for name in names:
        if name not in losses:
            word = name.replace("_", " ")
            inner.append(page.card(word.capitalize(), _curve(facts, [name], word, best)))
    return page.cards(*inner)


def _curve(facts: VersionFacts, names: Sequence[str], what: str, best: int | None) -> Html:
    points = [facts.curve[place] for place in thinned(len(facts.curve), _MOST_POINTS)]
    series = {name: [(point["epoch"], point[name]) for point in points if name in point] for name in names}
    last = ", ".join(f"{name.replace('_', ' ')} {readable(points[-1][1])}" for name, points in series.items())
    chart = lines_chart(series, f"{what.capitalize()} by epoch; at the end {last}", "epoch", what, marked_x=best)
    return page.figure(chart, "", [name.replace("_", " ") for name in names] if len(names) > 1 else ())


def _answers_lead(facts: VersionFacts) -> str:
    read, there = len(facts.answers.truth), _test_rows(facts)
    rows = f"the first {read:,} of {there:,} rows" if read < there else f"the {counted(read, 'row')}"
    return f"Variant {facts.answers.variant} on {rows} of the test split."


def _test_rows(facts: VersionFacts) -> int:
    """Return how many rows the version was measured on; a report of a large dataset reads fewer."""
    rows: int = facts.manifest.get("rows", {}).get("test", len(facts.answers.truth))
    return rows


def _answers(facts: VersionFacts) -> Html:
    if isinstance(facts.answers, Estimates):
        cards = [*_estimates(facts.answers, facts.label), *_measures(facts), *places_cards(facts, "step")]
        return page.cards(*cards, *_importance(facts))
    if isinstance(facts.answers, Texts):
        return page.cards(*_measures(facts))
    if isinstance(facts.answers, Tags):
        cards = [*tags_cards(facts.answers), *_measures(facts), *places_cards(facts, "label")]
        return page.cards(*cards, *_importance(facts))
    return page.cards(*_confusion(facts.answers), *_calibration(facts.answers), *_measures(facts), *_importance(facts))


def _measures(facts: VersionFacts) -> Iterator[Html]:
    metrics = facts.version["metrics"]
    rows = [
        [measure.title, figure(measure, metrics[measure.name]), measure.note]
        for measure in _task(facts).measured
        if measure.name in metrics
    ]
    yield page.card("Measures", page.table(["", "fp32", ""], rows, numbers=(1,), caption="On the whole test split"))
    yield from slices_card(metrics, _task(facts), _measure(facts))


def _importance(facts: VersionFacts) -> Iterator[Html]:
    if not facts.importance:
        return
    loss = _task(facts).loss
    shown = list(facts.importance.items())[:_MOST_FEATURES]
    drawn = page.bars({name: (rise, f"{rise:+.3g}") for name, rise in shown}, f"rise of the {loss.title}")
    left = len(facts.importance) - len(shown)
    more = f" {left} more rise by less." if left else ""
    note = f"By how much the {loss.title} rises when a feature's values are given to other rows.{more}"
    yield page.card("Importance of features", drawn, note=f"{note} What two features tell alike counts for neither.")


def _confusion(answers: Answers) -> Iterator[Html]:
    pairs = Counter(zip(answers.truth.tolist(), answers.labels.tolist(), strict=True))
    right = sum(count for (true, given), count in pairs.items() if true == given)
    told = f"{right} of {len(answers.truth)} answers are right"
    if len(answers.classes) <= MOST_CLASSES:
        names = [answers.name_of(value) for value in answers.classes]
        drawn = page.figure(matrix_chart(confusion(pairs, answers.classes), names, f"Confusion matrix: {told}"))
        chart = element("div", drawn, class_="scroll", tabindex="0", role="region", aria_label="Confusion matrix")
        yield page.card("Confusion matrix", chart, note=f"{told}. A row is a true class.")
    wrong = [
        (answers.name_of(true), answers.name_of(given), str(count))
        for (true, given), count in pairs.most_common()
        if true != given
    ]
    mixed = page.table(["true", "answered", "rows"], wrong[:_MOST_PAIRS], numbers=(2,), caption="Mixed up most often")
    per_class = page.bars(_worst(pairs, answers), "right answers by class, the worst first")
    yield page.card("Classes", per_class, mixed if wrong else page.paragraph("No row was answered wrongly."))


def _worst(pairs: Mapping[tuple[Any, Any], int], answers: Answers) -> dict[str, tuple[float, str]]:
    """Return the share of right answers of the classes that have the fewest, worst first."""
    totals: Counter[Any] = Counter()
    for (true, _), count in pairs.items():
        totals[true] += count
    shares = {true: pairs.get((true, true), 0) / total for true, total in totals.items()}
    worst = sorted(shares, key=lambda true: (shares[true], str(true)))[:MOST_CLASSES]
    return {answers.name_of(true): (shares[true], f"{shares[true]:.1%} of {totals[true]}") for true in worst}


def _calibration(answers: Answers) -> Iterator[Html]:
    confidence = answers.probabilities.max(axis=1)
    # Of the likeliest class, which a threshold does not make the answer always.
    likeliest = np.array(answers.classes, dtype=answers.truth.dtype)[answers.probabilities.argmax(axis=1)]
    right = np.asarray(likeliest == answers.truth)
    bins = reliability(confidence, right)
    error = calibration_error(bins)
    told = f"Reliability diagram: calibration error {error:.1%}"
    note = f"Calibration error {error:.1%}. On the dashed line, answers given with 80 % confidence are right in 80 %."
    yield page.card("Calibration", page.figure(reliability_chart(bins, told)), note=note)
    sure = histogram(confidence, [number / 20 for number in range(21)])
    chart = histogram_chart(sure, "Histogram of the confidence of answers", "confidence", series=3)
    yield page.card("Confidence", page.figure(chart), note="How sure the model is of its answers.")


def _estimates(answers: Estimates, label: str) -> Iterator[Html]:
    truth, given = (each.reshape(-1).astype(np.float64) for each in (answers.truth, answers.predictions))
    kept = thinned(len(truth), _MOST_POINTS)
    pairs = list(zip(given[kept].tolist(), truth[kept].tolist(), strict=True))
    note = f"{len(kept):,} of {len(truth):,} rows are drawn." if len(kept) < len(truth) else ""
    if not answers.in_unit:
        chart = scatter_chart(pairs, f"True {label} by answer", "answered", f"true {label}", reference="zero")
        yield page.card("Answered and true", page.figure(chart), note=note)
        return
    errors = given - truth
    chart = scatter_chart(pairs, f"True {label} by prediction", "predicted", f"true {label}", reference="diagonal")
    yield page.card("Predicted and true", page.figure(chart), note=f"On the dashed line both are equal. {note}")
    residuals = [(predicted, predicted - true) for predicted, true in pairs]
    chart = scatter_chart(residuals, f"Error of {label} by prediction", "predicted", "error", reference="zero")
    worst = float(np.abs(errors).max())
    yield page.card(
        "Residuals", page.figure(chart), note=f"Predicted minus true; the largest is {readable(worst)} in size."
    )
    chart = histogram_chart(histogram(errors), f"Histogram of the errors of {label}", "error", series=3)
    yield page.card(
        "Errors",
        page.figure(chart),
        note=f"Mean {readable(float(errors.mean()))}, deviation {readable(float(errors.std()))}.",
    )


def _gates(facts: VersionFacts) -> Html:
    measures = _task(facts).measures
    held = facts.version["gates"]
    gates = [gate for gate in held if gate["variant"] != REFERENCE_VARIANT or _of_itself(gate, measures)]
    if not gates:
        return page.cards(page.card("None", note="Only fp32 is there, which the gates refer to.", wide=True))
    rows = [
        [
            gate["variant"],
            gate.get("reason") or gate["gate"],
            f"{gate['measured']:.4g}",
            f"{'≥' if at_least(gate['gate']) else '≤'} {gate['limit']:.4g}",
            page.badge("passed", "good") if gate["passed"] else page.badge("failed", "bad"),
        ]
        for gate in gates
    ]
    told = page.table(["variant", "gate", "measured", "limit", "outcome"], rows, numbers=(2, 3))
    return page.cards(page.card("Measured against the limit", told, wide=True), *_comparison(facts))


def _of_itself(gate: View, measures: Mapping[str, Measure]) -> bool:
    """Tell whether a gate judges fp32 too."""
    return gate["gate"] in measures or of_slice(gate["gate"])


def _comparison(facts: VersionFacts) -> Iterator[Html]:
    """Yield the champion beside this version, when they were measured on the same rows; a first one has none."""
    found = facts.version["evaluations"]
    if len({one["version_id"] for one in found}) < 2:
        return
    names = sorted({name for one in found for name in one["metrics"] if not of_part(name)})
    rows = [[title_of(name), *(figure_text(name, one["metrics"].get(name)) for one in found)] for name in names]
    splits = list(dict.fromkeys(one["dataset_id"] for one in found))
    heads = ["", *(_whose(one, facts, splits) for one in found)]
    told = page.table(heads, rows, numbers=range(1, len(heads)))
    note = "Both on the same rows: the test split of the dataset that each learned from"
    if "" in splits:
        note += f", and both splits together, by which {_measure(facts).title} is compared"
    yield page.card("Against the champion", told, note=f"{note}.", wide=True)


def _whose(evaluation: View, facts: VersionFacts, splits: Sequence[str]) -> str:
    """Return the head of an evaluation's column: of which version, and where there are several splits, on which."""
    version_id, dataset_id = evaluation["version_id"], evaluation["dataset_id"]
    whose = "this version" if version_id == facts.version["version_id"] else f"champion {short_id(version_id)}"
    if len(splits) < 2:
        return whose
    return f"{whose}, {short_id(dataset_id)}" if dataset_id else f"{whose}, together"


def _lineage(facts: VersionFacts) -> Html:
    return page.cards(page.card("From record to release", page.chain(list(_links(facts))), wide=True))


def _links(facts: VersionFacts) -> Iterator[tuple[str, Html]]:
    dataset = facts.dataset
    if dataset:
        ranges = ", ".join(
            f"partition {one['partition']}: {one['start']} to {one['end']}" for one in dataset["sources"]
        )
        yield f"Topic {facts.topic}", page.paragraph(f"Offsets read: {ranges}.")
        rows = ", ".join(f"{name} {count:,}" for name, count in dataset["rows"].items())
        yield (
            f"Dataset {short_id(dataset['dataset_id'])}",
            page.paragraph(rows, " · ", page.identity(dataset["dataset_id"])),
        )
    for run in facts.runs:
        ended = f", ended {moment(run['end_time'])}" if run["end_time"] else ""
        yield f"Run of {run['kind']}", page.paragraph(f"{run['state']}{ended} · ", page.identity(run["run_id"]))
    version = facts.version
    yield f"Version {version['ordinal']} of {version['model']}", page.paragraph(page.identity(version["version_id"]))
    if facts.release:
        release: dict[str, Any] = facts.release
        told = f"Alias {release['alias']}, variant {release['variant']}, {moment(release['release_time'])}"
        yield f"Release {release['epoch']}", page.paragraph(told)
