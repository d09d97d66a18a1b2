"""Generates topics.md, pipeline.md and its schema in docs, tables of settings and permissions, and spreads the version.

`--check` compares.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path

import chart
import dashboard
import versions
from access_page import access_tables
from headrace_data.spec import json_schema
from headrace_runtime.record_topics import RECORD_TOPICS
from headrace_runtime.settings import settings_table
from headrace_runtime.topics import CONTROL_TOPICS, DAY_MS, FOREVER, Topic
from pipeline_page import pipeline_page

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = re.compile(r"(<!-- settings:begin -->\n).*?(<!-- settings:end -->)", re.DOTALL)
ACCESS = re.compile(r"(<!-- access:begin -->\n).*?(<!-- access:end -->)", re.DOTALL)

TOPICS_INTRODUCTION = """\
# Topics

Generated from `headrace_runtime.topics` by `make docs`. Names carry the brand, facts
are in the past tense and commands end in `requested`. Automatic creation is off: the control topics are made when the
platform starts, a pipeline's own topics when it is applied. Partitions are given as embedded / production.

Every event is a bare protobuf message under [`protos/headrace`](../protos/headrace) with CloudEvents headers in binary
mode (`ce_id`, `ce_type`, `ce_source`, `ce_time`, `ce_specversion`, `content-type`) and the W3C `traceparent`.
"""


def topics_page() -> str:
    """Return docs/topics.md."""
    control = [
        "| topic | message | key | partitions | kept | from | to | purpose |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| `{topic.name}` | {topic.message.DESCRIPTOR.name} | {topic.key} | "
            f"{topic.partitions} / {topic.production_partitions} | {kept(topic)} | "
            f"{', '.join(topic.producers)} | {', '.join(topic.consumers) or 'nobody'} | {topic.purpose} |"
            for topic in CONTROL_TOPICS
        ),
    ]
    records = [
        "| topic | value | key | kept | from | to | purpose |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| `{topic.template}` | {topic.value} | {topic.key} | "
            f"{int(topic.config['retention.ms']) // DAY_MS} days | "
            f"{', '.join(topic.producers)} | {', '.join(topic.consumers) or 'nobody'} | {topic.purpose} |"
            for topic in RECORD_TOPICS
        ),
    ]
    parts = [
        TOPICS_INTRODUCTION,
        "## Control topics\n",
        *control,
        "\n## Topics of each pipeline\n",
        "With as many partitions as the producers' topic; a record stays in its partition, and so in its order. "
        "That of answers is there for pipelines with `serve.scoring` alone, and its values are JSON.\n",
        *records,
    ]
    return "\n".join(parts) + "\n"


def kept(topic: Topic) -> str:
    """Return how long a topic keeps its messages, in words."""
    if topic.compacted:
        return (
            "newest per key"
            if topic.retention_ms == FOREVER
            else f"newest per key, {topic.retention_ms // DAY_MS} days"
        )
    return "for ever" if topic.retention_ms == FOREVER else f"{topic.retention_ms // DAY_MS} days"


def service_readme(path: Path) -> str:
    """Return a service's README with its settings table made anew."""
    module = f"headrace_{path.parent.name.replace('-', '_')}.settings"
    return with_part(path, SETTINGS, settings_table(importlib.import_module(module).Settings))


def with_part(path: Path, part: re.Pattern[str], content: str) -> str:
    """Return a page with its generated part made anew."""
    text, count = part.subn(lambda found: f"{found[1]}{content}\n{found[2]}", path.read_text())
    if count != 1:
        sys.exit(f"{path.relative_to(ROOT)}: expected one {part.pattern}, got {count}")
    return text


def main() -> None:
    """Write the pages, or compare with what is committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    docs = ROOT / "docs"
    pages = {
        docs / "topics.md": topics_page(),
        docs / "pipeline.md": pipeline_page(),
        docs / "pipeline.schema.json": json_schema(),
        docs / "producers.md": with_part(docs / "producers.md", ACCESS, access_tables()),
    }
    pages |= {path: service_readme(path) for path in sorted((ROOT / "services").glob("*/README.md"))}
    pages |= chart.pages() | dashboard.pages()
    pages |= versions.pages()
    changed = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if check and changed:
        sys.exit("out of date, run `make docs`: " + ", ".join(str(path.relative_to(ROOT)) for path in changed))
    for path in changed:
        path.write_text(pages[path])
        print(f"generated {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
