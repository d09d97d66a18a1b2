"""What a dataset's page says of each column: rejected for it, missing, personal, and what the transform makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

import pyarrow as pa
from headrace_data.detectors import found_in
from headrace_data.manifest import Manifest
from headrace_data.spec import Field

from headrace_client.errors import HeadraceClientError
from headrace_client.ingestion import IngestionClient
from headrace_client.report import page
from headrace_client.report.facts import Array, DatasetFacts, Example, Letters
from headrace_client.report.markup import Html, counted, element
from headrace_client.report.measures import missing

MOST_LETTERS: Final = 10_000
"""Dead letters that are looked at, of the whole pipeline."""
MOST_EXAMPLES: Final = 20


def letters_of(client: IngestionClient, manifest: Manifest) -> Letters | None:
    """Return the dead letters of the records that a dataset is of; None where ingestion cannot be asked."""
    origin = manifest.provenance
    ranges = {(origin.topic, part.partition): range(part.start, part.end) for part in origin.sources}
    found: dict[str, Counter[str]] = {}
    examples: dict[tuple[str, str], Example] = {}
    looked_at = 0
    try:
        for letter in islice(client.dead_letters(manifest.pipeline, limit=MOST_LETTERS), MOST_LETTERS):
            looked_at += 1
            if letter.offset in ranges.get((letter.topic, letter.partition), ()) and not letter.replays:
                found.setdefault(letter.field, Counter())[letter.rule] += 1
                example = Example(letter.id, letter.rule, letter.field, letter.reason)
                examples.setdefault((letter.rule, letter.field), example)
    except HeadraceClientError:
        return None
    return Letters(found, [*examples.values()][:MOST_EXAMPLES], looked_at)


def by_column(facts: DatasetFacts) -> Html:
    """Return a table of all columns that were read, and the fields that records were rejected for."""
    letters = facts.letters.by_field if facts.letters else {}
    unread: dict[str, int] = facts.dataset.get("unread", {})
    manifest, rows = facts.manifest, list[list[str]]()
    for field in [*manifest.features, manifest.label]:
        values = facts.all_rows(field.name)
        rows.append(
            [
                field.name,
                field.role,
                _told(letters.get(field.name, {})),
                f"{unread[field.name]:,}" if field.name in unread else "",
                _share(missing(values), len(values)),
                _personal(field, values),
                counted(manifest.transforms[field.name].width, "input") if field.role == "feature" else "",
            ]
        )
    known = {row[0] for row in rows}
    others = {name: rules for name, rules in sorted(letters.items()) if name not in known}
    rows += [[name or "the record as a whole", "", _told(rules), *[""] * 4] for name, rules in others.items()]
    heads = ["field", "role", "rejected for it", "not read", "missing", "personal data", "after the transform"]
    return page.cards(page.card("Before and after", page.table(heads, rows), _note(facts), wide=True))


def examples(facts: DatasetFacts) -> Iterator[Html]:
    """Yield a card with a dead letter of each rule and field, where there is any."""
    found = facts.letters.examples if facts.letters else ()
    if not found:
        return
    rows = [[each.letter, each.rule, each.field, each.reason] for each in found]
    how = element("code", f"headrace dead show {facts.manifest.pipeline} --where id=…")
    told = element("p", "One of each rule and field. With what the letter holds: ", how, class_="note")
    table = page.table(["letter", "rule", "field", "what was expected and what came"], rows)
    yield page.card("Examples", table, told, wide=True)


def _note(facts: DatasetFacts) -> Html:
    if facts.letters is None:
        told = "Ingestion could not be asked for dead letters, so nobody knows which fields records were rejected for."
    else:
        told = f"Rejected: of {counted(facts.letters.looked_at, 'dead letter')} those of the dataset's offsets."
    told += " Not read: the SELECT tried to, and made a gap."
    told += " Personal data is what the form of a text tells: rows with some, by kind."
    return element("p", told, class_="note")


def _told(counts: Mapping[str, int]) -> str:
    return page.counts(dict(sorted(counts.items(), key=lambda each: -each[1])))


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if count else "0"


def _personal(field: Field, values: Array) -> str:
    if field.type != "string" or field.shape:
        return ""
    found = found_in(pa.array(values.tolist(), pa.string()))
    return _told(found) or "none found"
