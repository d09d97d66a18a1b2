"""`push`: a file's rows into a pipeline, as if producers had sent them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_client.addresses import find_addresses
from headrace_client.cli.files import EncodingOption, FormatOption
from headrace_client.cli.output import JsonOption, note, print_json, printable, say, stderr
from headrace_client.ingestion import IngestionClient
from headrace_client.registry import RegistryClient
from headrace_client.stages import rejected_text
from headrace_client.views import View

if TYPE_CHECKING:
    from headrace_data.spec import Pipeline

    from headrace_client.pushing import Pushed

Show = Callable[["Pushed", int], None]
LINE_ROWS: Final = 100_000
"""After so many rows there is a line of progress where there is no terminal."""


def push(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            help="CSV, JSON Lines, Parquet or Arrow files, in order; or folders of pictures or sounds, in folders by "
            "class.",
            exists=True,
        ),
    ],
    file_format: FormatOption = "",
    encoding: EncodingOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send a file's rows through a pipeline as new records: checked like all, each once. Run it again to resume."""
    from headrace_client.class_folders import FolderPush
    from headrace_client.pushing import FilePush, Push

    in_force = _in_force(pipeline)
    # All are looked at before anything of them is sent.
    pushes: list[tuple[Path, Push]] = [
        (path, FolderPush(in_force, path) if path.is_dir() else FilePush(in_force, path, file_format, encoding))
        for path in files
    ]
    done: list[Pushed] = []
    with IngestionClient(find_addresses().ingestion) as ingestion:
        for path, each in pushes:
            with _shown(path, each.size_bytes) as show:
                done.append(each.run(ingestion, show))
            if not as_json:
                _say(pipeline, done[-1])
    if as_json:
        print_json({"pipeline": pipeline, "files": [_view(each) for each in done]})


def _in_force(name: str) -> Pipeline:
    from headrace_data.spec import parse_canonical

    with RegistryClient(find_addresses().registry) as registry:
        return parse_canonical(registry.pipeline(name).spec.json)


def _view(pushed: Pushed) -> View:
    return {
        "file": pushed.name,
        "rows": pushed.rows,
        "accepted": pushed.accepted,
        "again": pushed.again,
        "rejected": dict(sorted(pushed.rejected.items())),
        "examples": dict(sorted(pushed.examples.items())),
    }


def _say(pipeline: str, pushed: Pushed) -> None:
    name = printable(pushed.name)
    again = f"; {pushed.again:,} of them were pushed before, and nothing was written for these" if pushed.again else ""
    say(f"{name}: {pushed.accepted:,} of {pushed.rows:,} rows accepted{again}")
    if pushed.rejected:
        say(f"{rejected_text(pushed.rejected)}: `headrace dead groups {pipeline}` says what would accept them")
        for rule in sorted(pushed.examples):
            for told in pushed.examples[rule]:
                say(f"  {rule}: {printable(told)}")


@contextmanager
def _shown(path: Path, size_bytes: int) -> Iterator[Show]:
    """Yield what shows progress on standard error: a bar on a terminal, a line now and then elsewhere."""
    console = stderr()
    if not console.is_terminal:
        said = 0

        def line(pushed: Pushed, _: int) -> None:
            nonlocal said
            if pushed.rows - said >= LINE_ROWS:
                said = pushed.rows
                note(f"{printable(pushed.name)}: {pushed.rows:,} rows, {pushed.accepted:,} accepted")

        yield line
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(printable(path.name), total=size_bytes)

        def bar(pushed: Pushed, read: int) -> None:
            told = f"{printable(pushed.name)}: {pushed.rows:,} rows"
            told += f", {pushed.rejected.total():,} rejected" if pushed.rejected else ""
            progress.update(task, completed=read, description=told)

        yield bar
