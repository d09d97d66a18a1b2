"""The page around the charts: head, style, sections, cards, tables. Nothing in it is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from headrace_client.report.markup import Html, element

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A browser that honours it loads nothing but the page itself, whatever is written into it."""


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    title: str
    lead: str
    body: Html

    @property
    def name(self) -> str:
        """What links call it."""
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True)
class Tile:
    """One figure at the top."""

    name: str
    value: str
    note: str = ""


def page(title: Html, eyebrow: str, lead: Html, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Return a whole document; `title` may hold badges."""
    plain = str(title).partition("<")[0].strip()
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("link", rel="icon", href="data:,"),
        element("title", Html(f"{plain} · Headrace")),
        element("style", Html(resources.files(__package__).joinpath("style.css").read_text())),
    )
    links = [element("li", element("a", section.title, href=f"#{section.name}")) for section in sections]
    body = element(
        "body",
        element(
            "header", element("p", eyebrow, class_="eyebrow"), element("h1", title), element("p", lead, class_="lead")
        ),
        element("nav", element("ul", *links), aria_label="Sections"),
        element("main", _tiles(tiles), *(_section(section) for section in sections)),
        element("footer", "Made by ", element("code", "headrace report"), ". This page is whole: it loads nothing."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _tiles(tiles: Sequence[Tile]) -> Html:
    def one(tile: Tile) -> Html:
        note = element("small", tile.note) if tile.note else ""
        return element("div", element("dt", tile.name), element("dd", tile.value, note))

    return element("dl", *(one(tile) for tile in tiles), class_="tiles")


def _section(section: Section) -> Html:
    heading = f"{section.name}-title"
    lead = element("p", section.lead) if section.lead else ""
    return element(
        "section",
        element("h2", section.title, id=heading),
        lead,
        section.body,
        id=section.name,
        aria_labelledby=heading,
    )


def cards(*inner: Html, dense: bool = False) -> Html:
    """Return cards side by side as far as there is room; dense ones need less of it."""
    return element("div", *inner, class_="cards dense" if dense else "cards")


def card(title: str, *inner: Html, note: str = "", wide: bool = False) -> Html:
    """Return a card with a heading."""
    told = element("p", note, class_="note") if note else ""
    return element("article", element("h3", title), told, *inner, class_="card wide" if wide else "card")


def figure(chart: Html, caption: str = "", legend: Sequence[str] = ()) -> Html:
    """Return a chart with its caption; the legend names the colours in order."""
    entries = [
        element("li", element("span", class_=f"back-{number}"), name) for number, name in enumerate(legend, start=1)
    ]
    named = element("ul", *entries, class_="legend") if legend else ""
    return element("figure", *([element("figcaption", caption)] if caption else []), chart, named)


def badge(word: str, kind: str = "") -> Html:
    """Return a word in a pill; kinds are `good` and `bad`."""
    return element("span", word, class_=f"badge {kind}".strip())


def badges(*words: str) -> Html:
    """Return plain words in pills; empty ones are left out."""
    return element("div", *(badge(word) for word in words if word), class_="badges")


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str | float]], *, numbers: Sequence[int] = (), caption: str = ""
) -> Html:
    """Return a table; the columns `numbers` are aligned right, the first one names its row. It scrolls when wide."""

    def cell(place: int, content: str | float) -> Html:
        number = "number" if place in numbers else None
        if place == 0:
            return element("th", content, scope="row", class_=number)
        return element("td", content, class_=number)

    titles = [
        element("th", head, scope="col", class_="number" if place in numbers else None)
        for place, head in enumerate(heads)
    ]
    body = [element("tr", *(cell(place, content) for place, content in enumerate(row))) for row in rows]
    named = element("caption", caption) if caption else ""
    whole = element("table", named, element("thead", element("tr", *titles)), element("tbody", *body))
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption or heads[0])


def counts(found: Mapping[str, int]) -> str:
    """Return counts by name in one line, in their order."""
    return ", ".join(f"{name} {count:,}" for name, count in found.items())


def bars(rows: Mapping[str, tuple[float, str]], caption: str) -> Html:
    """Return a table of values drawn as bars: name to (value, text)."""
    most = max((value for value, _ in rows.values()), default=0) or 1
    body = [
        element("tr", element("th", name, scope="row"), bar(value / most), element("td", told, class_="number"))
        for name, (value, told) in rows.items()
    ]
    return element("table", element("caption", caption), element("tbody", *body))


def bar(share: float) -> Html:
    """Return a table cell with a bar of that share of its width."""
    width = f"width:{min(max(share, 0.0), 1.0) * 100:.1f}%"
    return element("td", element("span", style=width), class_="bar")


def chain(links: Sequence[tuple[str, Html]]) -> Html:
    """Return what led to what: title and text of each link."""
    return element("ol", *(element("li", element("h3", title), told) for title, told in links), class_="chain")


def identity(text: str) -> Html:
    """Return an id or a digest."""
    return element("span", text, class_="id")


def paragraph(*parts: str | float) -> Html:
    """Return a paragraph."""
    return element("p", *parts)
