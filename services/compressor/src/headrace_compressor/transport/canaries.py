"""What a canary asks for, done: two versions held against each other on rows of the past."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from headrace_data.errors import DataError
from headrace_data.history import History
from headrace_data.manifest import Manifest
from headrace_data.replayed import Replayed
from headrace_data.spec import parse_canonical
from headrace_data.tasks import Slices
from headrace_learning.errors import LearningError
from headrace_learning.graphs import task_of_graph
from headrace_runtime.errors import Corrupt, NotFound
from headrace_runtime.local_files import working_folder
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import Assignment, WorkRefused

from headrace_compressor.core import canary
from headrace_compressor.errors import CompressionError
from headrace_compressor.transport.assignments import version_of


def judge(assignment: Assignment) -> dict[str, Any]:
    """Hold the candidate against the champion, and return what was found."""
    try:
        with working_folder() as folder:
            return _judge(assignment, folder)
    except (CompressionError, DataError, LearningError, NotFound, Corrupt) as error:
        # Specs, segments and graphs are read by their digests: what is wrong with them stays wrong.
        raise WorkRefused(str(error)) from error


def _judge(assignment: Assignment, folder: Path) -> dict[str, Any]:
    store = ObjectStore(assignment["store_url"])
    pipeline, asked = parse_canonical(assignment["spec"].encode()), assignment["canary"]
    references = [assignment["candidate"], assignment["champion"]]
    candidate, champion = (version_of(each, store, folder) for each in references)
    learned = [Manifest.from_json(store.get(Artifact(**each["dataset"]["manifest"]))) for each in references]
    task = task_of_graph(candidate.graph)
    fields = [each for each in learned[0].fields if each.name in pipeline.train.slices]
    history = History.from_json(store.get(Artifact(**asked["history"])))
    rows = Replayed(history, learned, pipeline, asked["last_s"], store, fields, grouped=task.grouped)
    slices = Slices.of(fields, (columns for columns, _ in rows))
    measure = task.measure(pipeline.compress.gates.measure)
    judged = canary.judge(candidate.graph, champion.graph, rows, slices, measure, pipeline.positive)
    return {
        **asdict(judged),
        "unseen_rows": rows.unseen_rows,
        "segments": rows.segments,
        "since_us": rows.since_us,
        "until_us": rows.until_us,
        "measure": measure.name,
        "certainty": canary.CERTAINTY,
    }
