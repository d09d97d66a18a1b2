"""The page of a dataset: its columns before and after the transform, what is missing, who was rejected, the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from headrace_data.spec import Field
from headrace_data.split import SPLITS
from headrace_data.transforms import Fitted, FittedCategory, FittedKnown, FittedSingle, FittedText, FittedTransform
from headrace_data.twins import near_twins, twins_text

from headrace_client.report import page
from headrace_client.report.by_column import by_column, examples
from headrace_client.report.charts import grouped_bars, histogram_chart, lines_chart
from headrace_client.report.facts import Array, DatasetFacts, class_name
from headrace_client.report.held import held_section, held_tile
from headrace_client.report.markup import Html, counted, element, joined, moment
from headrace_client.report.measures import histogram, missing, thinned
from headrace_client.report.svg import readable
from headrace_client.stages import LEFT_OUT
from headrace_client.views import View, short_id

MOST_COLUMNS: Final = 60
"""Features that are drawn."""
MOST_CATEGORIES: Final = 8
MOST_CLASSES: Final = 12
"""Classes that are drawn; more are a table."""
MOST_ROWS: Final = 100
"""Classes that are listed, the most frequent."""
_MOST_VALUES: Final = 200_000
"""Numbers of a feature that are counted; of arrays there are many in each row."""
RULES: Final = {
    "json": "the bytes are no JSON object",
    "avro": "the bytes are no record of their schema in Avro",
    "protobuf": "the bytes are no message of their schema in Protobuf",
    "csv": "the bytes are no row of CSV with these columns",
    "text": "the bytes are no text in UTF-8",
    "envelope": "the record is not in the envelope that the stream names",
    "deleted": "the record tells of a deletion",
    "schema": "the schema that the record names is not known, or cannot be read with",
    "missing": "a field that must be there is not",
    "type": "a value has another type than the schema says",
    "shape": "an array has another shape than the schema says",
    "overflow": "a number does not fit its type",
    "outOfRange": "a value lies outside of its field's range",
    "where": "a condition over the fields of the row does not hold",
    "duplicates": "a record with this key was there already",
    "time": "the field of the event time holds none",
    "future": "the event time lies too far ahead",
    "oversized": "the record is too large",
    "personal": "a text holds personal data",
    "unlabelled": "no label of the row came in time",
    "contaminated": "a training row nearly repeats one of validation or test",
    "nearDuplicates": "a training row nearly repeats an earlier one",
    "outliers": "a value of a training row lies far from most others of its field",
}
_TIMES: Final = {
    "create": "set by the producer",
    "append": "set by the broker",
    "field": "a field of the record",
    "accept": "when a push came",
}


def dataset_page(facts: DatasetFacts) -> str:
    """Return the report of a dataset as an HTML document."""
    dataset, manifest = facts.dataset, facts.manifest
    left_out = sum(count for rule, count in dataset["rejected"].items() if rule in LEFT_OUT)
    rejected = sum(dataset["rejected"].values()) - left_out
    rows = manifest.rows
    tiles = [
        page.Tile("rows", f"{rows:,}"),
        *(page.Tile(name, f"{count:,}", f"{count / rows:.0%}") for name, count in dataset["rows"].items()),
        page.Tile("features", str(len(manifest.features)), _inputs(facts)),
        page.Tile("rejected", f"{rejected:,}", f"{rejected / (rejected + rows):.1%} of all records"),
    ]
    tiles += [*_counted_tiles(dataset, left_out), *held_tile(facts.held)]
    parts: list[tuple[str, str, Html]] = [
        ("Label", "What is to be predicted, in each split.", _label(facts)),
        ("Columns", _columns_lead(facts), page.cards(*_columns(facts), dense=True)),
        ("By column", "What records came with, and what becomes of it.", by_column(facts)),
        ("Missing values", "Rows of the dataset in which a feature has no value.", _missing(facts)),
        ("Rejected records", "Records of the same range that are not in the dataset.", _rejected(facts)),
        ("Provenance", "Where the rows came from: the same range gives the same id.", _origin(facts)),
    ]
    parts[-1:-1] = held_section(facts.held)
    if alike := _alike(facts):
        lead = "Texts that differ by blanks, case or hidden characters only, and are told apart all the same."
        parts.insert(1, ("Nearly alike", lead, alike))
    if far := _outlying(dataset):
        parts.insert(-1, ("Outliers", "Beyond these values rows were left out of training, as most lie within.", far))
    if leaked := _leaked(dataset):
        lead = "Training rows that validation or test has, too: measures promise more than they would without them."
        parts.insert(1, ("Leaks", lead, leaked))
    sections = [page.Section(title, lead, body) for title, lead, body in parts]
    lead = joined(
        f"Frozen {moment(dataset['freeze_time'])} from topic ",
        element("code", manifest.provenance.topic),
        ". Its id names its content: ",
        page.identity(manifest.dataset_id),
    )
    title = joined(f"{manifest.pipeline}, dataset {short_id(manifest.dataset_id)}")
    return page.page(title, "Dataset", lead, tiles, sections)


def _counted_tiles(dataset: View, left_out: int) -> Iterator[page.Tile]:
    """Yield what was counted of a dataset beside its rows, as far as there is any."""
    if left_out:
        yield page.Tile("left out", f"{left_out:,}", "rows that training is without")
    if masked := sum(dataset["masked"].values()):
        told = ", ".join(f"{kind} {count:,}" for kind, count in dataset["masked"].items())
        yield page.Tile("masked", f"{masked:,}", told)
    if repeated := dataset["repeated_keys"]:
        yield page.Tile("repeated keys", f"{repeated:,}", "rows with the key of another row")
    if rarest := dataset["rarest"]:
        yield page.Tile("rarest class", f"{rarest['rows']:,}", f"of {rarest['label']} in {rarest['split']}")
    if (leaks := dataset["leaks"]) and (leaked := leaks["exact"] + leaks["near"]):
        yield page.Tile("leaks", f"{leaked:,}", "training rows that validation or test has, too")
    if late := dataset["late_rows"]:
        yield page.Tile("late", f"{late:,}", "rows over a minute older than others before them")


def _inputs(facts: DatasetFacts) -> str:
    return f"{counted(facts.manifest.transforms.width, 'input')} of the network"


def _columns_lead(facts: DatasetFacts) -> str:
    read = f" Counted over the first {facts.rows_read:,} rows." if facts.rows_read < facts.manifest.rows else ""
    shown = len(facts.manifest.features)
    cut = f" The first {MOST_COLUMNS} of {shown} are shown." if shown > MOST_COLUMNS else ""
    return f"As producers sent them, and as the network sees them: the transform is part of the model.{read}{cut}"


def _columns(facts: DatasetFacts) -> Iterator[Html]:
    for field in facts.manifest.features[:MOST_COLUMNS]:
        fitted = facts.manifest.transforms[field.name]
        values = facts.all_rows(field.name)
        if isinstance(fitted, FittedText):
            yield page.card(field.name, _facts_of(field, fitted), _category(field, fitted, values))
        else:
            yield page.card(field.name, _facts_of(field, fitted), _number(field, fitted, values))


def _facts_of(field: Field, fitted: Fitted) -> Html:
    done = "" if fitted.kind == "none" else fitted.kind
    shape = f"{'×'.join(map(str, field.shape))}" if field.shape else ""  # noqa: RUF001
    filled = f"missing becomes {_filling(fitted)}" if fitted.optional else ""
    return page.badges(field.type, shape, field.unit or "", done, filled)


def _filling(fitted: Fitted) -> str:
    if isinstance(fitted, FittedText):
        return fitted.fill or ""
    fill = np.asarray(fitted.fill, dtype=np.float64)
    return readable(float(fill.reshape(-1)[0]), 5) if fill.size == 1 else "each element's own value"


def _number(field: Field, fitted: FittedTransform | FittedSingle, values: Array) -> Html:
    kept = values[thinned(len(values), max(_MOST_VALUES // field.size, 1))]
    before, after = histogram(kept), histogram(fitted.apply(kept))
    flat = np.asarray(kept, dtype=np.float64).reshape(-1)
    flat = flat[np.isfinite(flat)]
    told = "no value at all"
    if len(flat):
        low, high, mean = (readable(float(each), 5) for each in (flat.min(), flat.max(), flat.mean()))
        told = f"{low} to {high}, mean {mean}"
    what = f"Histogram of {field.name}"
    return element(
        "div",
        page.figure(histogram_chart(before, f"{what} as it came: {told}", field.unit or "value", small=True), told),
        page.figure(
            histogram_chart(after, f"{what} after the transform", "input of the network", series=3, small=True),
            "after the transform",
        ),
        class_="pair",
    )


def _category(field: Field, fitted: FittedText, values: Array) -> Html:
    counts = Counter(value or "(missing)" for value in values.tolist())
    total = sum(counts.values())
    rows = {name: (float(count), _share(count, total)) for name, count in counts.most_common(MOST_CATEGORIES)}
    more = len(counts) - len(rows)
    caption = counted(len(counts), "value") + (f", the {MOST_CATEGORIES} most frequent are shown" if more > 0 else "")
    after = counted(fitted.width, "input")
    if isinstance(fitted, FittedCategory) and fitted.encode == "onehot":
        after += ", one for each category" + (" that is told apart and one for all others" if fitted.rare else "")
    return joined(page.bars(rows, caption), element("p", f"After the transform: {after}.", class_="note"))


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})"


def _label(facts: DatasetFacts) -> Html:
    label = facts.manifest.label
    if label.shape and label.type == "bool":
        return page.cards(page.card(label.name, _tags(facts), wide=True))
    many = len(facts.manifest.classes) > MOST_CLASSES and label.type != "string"
    if many or not facts.manifest.classes:
        return page.cards(page.card(label.name, _amounts(facts), note="Share of each split's rows.", wide=False))
    counts = {split: Counter(columns[label.name].tolist()) for split, columns in facts.columns.items()}
    totals: Counter[Any] = sum(counts.values(), Counter())
    found, name_of = list(facts.manifest.classes), partial(class_name, flag=label.type == "bool")
    if len(found) > MOST_ROWS:
        found = sorted(found, key=lambda value: -totals[value])[:MOST_ROWS]
    rows = [
        [name_of(value), *(_share(counts[split][value], max(sum(counts[split].values()), 1)) for split in SPLITS)]
        for value in found
    ]
    told = page.table([label.name, *SPLITS], rows, numbers=(1, 2, 3), caption="Rows of each class")
    if len(found) > MOST_CLASSES:
        return page.cards(page.card(label.name, told, note=f"{len(facts.manifest.classes)} classes.", wide=True))
    shares = {
        name_of(value): [100 * counts[split][value] / max(sum(counts[split].values()), 1) for split in SPLITS]
        for value in found
    }
    chart = grouped_bars(shares, f"Share of each class of {label.name} in the three splits", "% of the split")
    return page.cards(
        page.card("Balance", page.figure(chart, "", SPLITS), note="Splits of alike balance measure alike."),
        page.card(label.name, told),
    )


def _tags(facts: DatasetFacts) -> Html:
    """Show how many rows of each split have each place of a label of booleans."""
    label = facts.manifest.label
    counts = {split: columns[label.name].sum(axis=0).astype(int) for split, columns in facts.columns.items()}
    rows = [
        [name, *(_share(int(counts[split][place]), max(len(facts.columns[split][label.name]), 1)) for split in SPLITS)]
        for place, name in enumerate(label.place_names)
    ]
    return page.table([label.name, *SPLITS], rows, numbers=(1, 2, 3), caption="Rows that have each label")


def _amounts(facts: DatasetFacts) -> Html:
    label = facts.manifest.label
    edges = histogram(_numbers(facts.all_rows(label.name))).edges
    series: dict[str, Sequence[tuple[float, float]]] = {}
    for split in SPLITS:
        counts = histogram(_numbers(facts.columns[split][label.name]), edges).counts
        total = max(sum(counts), 1)
        middles = [(low + high) / 2 for low, high in pairwise(edges)]
        series[split] = [(x, 100 * count / total) for x, count in zip(middles, counts, strict=True)]
    what, unit = (f"the length of {label.name}", "characters") if label.type == "string" else (label.name, _unit(label))
    chart = lines_chart(series, f"Distribution of {what} in the three splits", unit, "% of rows", floor=0)
    return page.figure(chart, "", SPLITS)


def _numbers(values: Array) -> Array:
    """Return what is drawn of a label: of texts how many characters they have."""
    if values.dtype.kind != "O":
        return values.ravel()
    return np.array([len(text) for text in values], dtype=np.float64)


def _alike(facts: DatasetFacts) -> Html | None:
    """Return the near twins among classes and categories; None when there are none."""
    manifest = facts.manifest
    texts = {manifest.label.name: [value for value in manifest.classes if isinstance(value, str)]}
    fitted = [manifest.transforms[field.name] for field in manifest.features]
    texts |= {one.name: list(one.categories) for one in fitted if isinstance(one, FittedKnown)}
    rows = [[name, twins_text(group)] for name, found in texts.items() for group in near_twins(found)]
    if not rows:
        return None
    return page.cards(page.card("By field", page.table(["field", "values"], rows), wide=True))


def _leaked(dataset: View) -> Html | None:
    """Return the first training rows that are held out, too; None when there is none, or nobody looked."""
    pairs = [example.partition(" as ") for example in (dataset["leaks"] or {}).get("examples", ())]
    rows = [[row, twin or "one that it nearly repeats"] for row, _, twin in pairs]
    return page.cards(page.card("The first", page.table(["taught", "held out"], rows), wide=True)) if rows else None


def _outlying(dataset: View) -> Html | None:
    """Return the bounds of each field that was looked at for outliers; None where there is none."""
    found = dataset["outliers"]
    rows = [[one["field"], readable(one["low"], 5), readable(one["high"], 5), one["rows"]] for one in found]
    heads = ["field", "from", "to", "rows beyond"]
    return page.cards(page.card("By field", page.table(heads, rows, numbers=(1, 2, 3)), wide=True)) if rows else None


def _unit(field: Field) -> str:
    return f"{field.name} ({field.unit})" if field.unit else field.name


def _missing(facts: DatasetFacts) -> Html:
    counts = {field.name: missing(facts.all_rows(field.name)) for field in facts.manifest.features}
    some = {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}
    if not some:
        return page.cards(page.card("None", note="Every feature of every row has a value.", wide=True))
    rows = {name: (float(count), _share(count, facts.rows_read)) for name, count in some.items()}
    return page.cards(page.card("By feature", page.bars(rows, f"of {counted(facts.rows_read, 'row')}"), wide=True))


def _rejected(facts: DatasetFacts) -> Html:
    rejected: dict[str, int] = facts.dataset["rejected"]
    if not rejected:
        return page.cards(page.card("None", note="Every record of the range is in the dataset.", wide=True))
    ranked = sorted(rejected.items(), key=lambda item: -item[1])
    rows = {f"{rule}: {RULES.get(rule, rule)}": (float(count), f"{count:,}") for rule, count in ranked}
    how = element(
        "p", "With their bytes: ", element("code", f"headrace dead list {facts.manifest.pipeline}"), class_="note"
    )
    return page.cards(page.card("By rule", page.bars(rows, "records"), how, wide=True), *examples(facts))


def _origin(facts: DatasetFacts) -> Html:
    manifest, origin = facts.manifest, facts.manifest.provenance
    ranges = [[str(part.partition), f"{part.start:,}", f"{part.end:,}"] for part in origin.sources]
    parts = manifest.parts
    rows: list[Sequence[Any]] = [
        ["cluster", page.identity(origin.cluster_id)],
        ["topic", joined(origin.topic, " ", page.identity(origin.topic_id))],
        ["event times", ", ".join(_TIMES.get(one, one) for one in origin.time_sources) or "not told"],
        ["pipeline", joined(manifest.pipeline, ", spec ", page.identity(manifest.spec_digest))],
        ["schema", page.identity(manifest.schema_digest)],
        *([["written with", _identities(origin.writer_schemas)]] if origin.writer_schemas else []),
        ["preparation", page.identity(manifest.prepare_digest)],
        ["split rule", page.identity(manifest.split_digest)],
        ["files", f"{counted(len(parts), 'Parquet file')}, {sum(part.size_bytes for part in parts):,} bytes"],
        ["versions", _versions(facts)],
    ]
    return page.cards(
        page.card("Producers' offsets", page.table(["partition", "from", "to (exclusive)"], ranges, numbers=(1, 2))),
        page.card("Identity", page.table(["what", "which"], rows)),
    )


def _identities(digests: Sequence[str]) -> Html:
    return joined(*(joined(page.identity(digest), " ") for digest in digests))


def _versions(facts: DatasetFacts) -> str:
    named = [f"{one['model']} {one['ordinal']} ({one['state']})" for one in facts.versions]
    return ", ".join(named) or "none was trained on it"
