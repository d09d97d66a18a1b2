"""What the documents say is so: commands exist, generated pages are current, topics are the code's topics."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from headrace_client.cli.app import app
from headrace_data.spec import load_pipeline
from headrace_runtime.record_topics import RECORD_TOPICS
from headrace_runtime.topics import CONTROL_TOPICS
from typer.main import get_command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
PAGES = sorted((ROOT / "docs").glob("*.md"))
SERVICE_READMES = sorted((ROOT / "services").glob("*/README.md"))


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"demo", "test", "up", "down"} <= named
    assert named <= targets


def test_contributing_names_every_target_for_developers() -> None:
    develop = re.split(r"^##@ ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[2]
    targets = set(re.findall(r"^([a-z-]+):", develop, re.MULTILINE))
    assert {"test", "test-quick", "chaos"} <= targets
    assert targets == set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text())) & targets


def test_every_headrace_command_of_the_readme_exists() -> None:
    command = get_command(app)
    named = set(re.findall(r"\bheadrace ([a-z]+)", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))))
    assert {"apply", "wait", "predict", "status"} <= named
    assert named <= set(command.commands)  # type: ignore[attr-defined]


def test_the_client_s_page_has_a_row_for_every_command() -> None:
    page = (ROOT / "clients" / "python" / "README.md").read_text()
    rows = {name for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)", row)}
    assert {"apply", "predict", "topic"} <= rows
    assert not get_command(app).commands.keys() - rows  # type: ignore[attr-defined]


def test_every_file_that_the_readmes_commands_name_exists() -> None:
    named = re.findall(
        r"\b((?:examples|scripts|docs)/[\w./-]+)", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    )
    assert {"examples/digits/pipeline.yaml", "examples/digits/produce.py", "examples/digits/rows.jsonl"} <= set(named)
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_client_s_page_installs_every_package_that_the_client_needs() -> None:
    page = (ROOT / "clients" / "python" / "README.md").read_text()
    folders = {
        tomllib.loads(path.read_text())["project"]["name"]: f"./{path.parent.relative_to(ROOT)}"
        for path in ROOT.glob("*/*/pyproject.toml")
    }

    def needed(package: str, extras: set[str]) -> set[str]:
        project = tomllib.loads((ROOT / folders[package] / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"]]
        for extra in extras:
            wanted += project["optional-dependencies"][extra]
        own = {name for each in wanted if (name := re.split(r"[^\w-]", each)[0]) in folders}
        return {folders[package]}.union(*(needed(name, set()) for name in own))

    lines = re.findall(r"^pip (?:install|wheel --no-deps --wheel-dir dist) (\..*?)(?:  +#.*)?$", page, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        named = re.sub(r"'(.*)\[(.*)\]'", r"\1", line).split()
        extras = set(re.findall(r"[a-z]+", (re.findall(r"\[(.*)\]", line) or [""])[0]))
        assert set(named) == needed("headrace-client", extras), line


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *SERVICE_READMES]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_every_decision_has_its_number_and_a_line_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    headings = {page.name: page.read_text().partition("\n")[0] for page in folder.glob("0*.md")}
    assert len(headings) > 50
    assert not [name for name, heading in headings.items() if not heading.startswith(f"# {name[:4]}: ")]
    listed = re.findall(r"^\| \[(\d{4})\]\((.*?)\) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == [(name[:4], name) for name in sorted(headings)]


def test_every_whole_pipeline_of_the_documents_is_one_that_is_accepted() -> None:
    blocks = re.findall(r"```yaml\n(stream:\n.*?)```", "".join(page.read_text() for page in PAGES), re.DOTALL)
    whole = [block for block in blocks if "\ntrain:" in block]
    assert len(whole) > 1
    for block in whole:
        head = "apiVersion: headrace/v1\nkind: Pipeline\nmetadata: {name: example}\n"
        named = block.replace("stream:\n", "stream:\n  topic: example\n  key: id\n", 1)
        load_pipeline(head + named)


def test_every_link_inside_the_page_of_the_pipeline_leads_to_a_heading() -> None:
    page = (ROOT / "docs" / "pipeline.md").read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    named = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert len(named) > 10
    assert named <= anchors


def test_the_page_of_the_pipeline_names_what_a_value_is() -> None:
    page = (ROOT / "docs" / "pipeline.md").read_text()
    rows = {
        row[1].strip(" `"): row[2].strip() for row in (line.split("|") for line in page.splitlines()) if len(row) > 4
    }
    assert rows["memory"] == "size"
    assert rows["limits"] == "mapping of names to number"


def test_the_page_of_the_pipeline_explains_every_key() -> None:
    page = (ROOT / "docs" / "pipeline.md").read_text()
    schema = json.loads((ROOT / "docs" / "pipeline.schema.json").read_text())
    keys = {key for one in (schema, *schema["$defs"].values()) for key in one.get("properties", ())}
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", page, re.MULTILINE)}
    assert {"earlyStop", "impute", "cacheTtl"} <= keys
    assert keys <= rows.keys()
    assert all(rows.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_names_the_schema_that_editors_complete_it_by(path: Path) -> None:
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text().splitlines()[0])
    assert named is not None
    assert (path.parent / named[1]).resolve() == ROOT / "docs" / "pipeline.schema.json"


@pytest.mark.slow
def test_generated_pages_are_current() -> None:
    script = ROOT / "scripts" / "generate_docs.py"
    result = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", SERVICE_READMES, ids=lambda page: page.parent.name)
def test_a_services_topics_are_the_codes_topics(page: Path) -> None:
    service = page.parent.name
    consumed = {topic.name for topic in CONTROL_TOPICS if service in topic.consumers}
    produced = {topic.name for topic in CONTROL_TOPICS if service in topic.producers}
    own = {topic.template.format(pipeline="<pipeline>") for topic in RECORD_TOPICS if service in topic.consumers}
    own |= {topic.template.format(pipeline="<pipeline>") for topic in RECORD_TOPICS if service in topic.producers}
    named = set(re.findall(r"headrace\.[a-z<>.-]+\.v\d+", page.read_text()))
    known = consumed | produced | own
    services = {f"headrace.{area}.v1" for area in ("registry", "ingestion", "inference", "events")}
    assert known <= named, f"not named: {known - named}"
    assert {name for name in named if name not in services and not name.startswith("headrace.ingestion")} <= known
