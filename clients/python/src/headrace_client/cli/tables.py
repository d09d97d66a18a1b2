"""The catalogue's tables, from the same views that `--json` prints."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from headrace_data.tasks import TASKS, Measure, Task, of_slice, worst_first
from rich.console import RenderableType

from headrace_client.cli.output import coloured, plain, table
from headrace_client.costs import cost_text, cpu_text, privacy_text, taken_by
from headrace_client.doubts import doubts
from headrace_client.stages import LEFT_OUT
from headrace_client.trials import chosen_text, trial_rows
from headrace_client.views import View, short_id

PUSHED = "headrace.push.accepted.v1"
"""The topic that places pushed records."""
_MOST_TRIALS = 20
FATES = {
    "in_dataset": "in a dataset",
    "rejected": "rejected",
    "waiting": "waiting",
    "left_out": "left out",
    "deleted_unread": "deleted unread",
    "held": "held",
    "dropped": "dropped",
}
"""What the fates of a record are called."""
HOLDS = {"held": "is held", "dropped": "was dropped"}


def pipelines(found: list[View]) -> list[RenderableType]:
    """Show pipelines."""
    rows = [
        [
            plain(view["pipeline"]),
            plain(view["topic"]),
            str(view["partitions"]),
            plain(view["model"]),
            short_id(view["spec_digest"]),
        ]
        for view in found
    ]
    return [table(["pipeline", "topic", ">partitions", "model", "=spec"], rows)]


def datasets(found: list[View]) -> list[RenderableType]:
    """Show datasets, and under them which schemas their records were written with."""
    rows = [
        [
            plain(view["pipeline"]),
            short_id(view["dataset_id"]),
            *(str(view["rows"][split]) for split in ("train", "validation", "test")),
            plain(", ".join(f"{rule} {count}" for rule, count in view["rejected"].items()) or "none"),
            moment_text(view["freeze_time"]),
        ]
        for view in found
    ]
    written = [f"dataset {short_id(view['dataset_id'])} {told}" for view in found if (told := _writers(view))]
    return [table(["pipeline", "=dataset", ">train", ">valid", ">test", "rejected", "=frozen"], rows), *written]


def runs(found: list[View]) -> list[RenderableType]:
    """Show runs, and under them why some came to nothing."""
    rows = [
        [
            plain(view["pipeline"]),
            short_id(view["run_id"]),
            view["kind"],
            coloured(view["state"]),
            _steps(view["progress"]),
            moment_text(view["request_time"]),
            _seconds_between(view["request_time"], view["end_time"]),
        ]
        for view in found
    ]
    ended = [view for view in found if view["reason"]]
    reasons = [f"run {short_id(view['run_id'])} {view['state']}: {plain(view['reason'])}" for view in ended]
    return [table(["pipeline", "=run", "=kind", "=state", ">step", "=requested", ">took"], rows), *reasons]


def versions(found: list[View]) -> list[RenderableType]:
    """Show versions beside always the same answer, the newest one's variants and gates, and which are poor."""
    title, qualities = _qualities(found)
    baselines = [_baseline(view) for view in found]
    compared = any(baselines)
    taken, costs = taken_by(found)
    rows = [
        [
            plain(view["model"]),
            str(view["ordinal"]),
            short_id(view["version_id"]),
            short_id(view["dataset_id"]),
            quality,
            *([baseline] if compared else []),
            *([plain(cost)] if taken else []),
            coloured(view["state"]),
        ]
        for view, quality, baseline, cost in zip(found, qualities, baselines, costs, strict=True)
    ]
    beside = [*([">baseline"] if compared else []), *([f">{taken}"] if taken else [])]
    parts: list[RenderableType] = [table(["model", ">version", "=id", "=dataset", title, *beside, "=state"], rows)]
    if found and found[-1]["variants"]:
        parts += variants(found[-1])
    parts += [*_slices(found[-1]), *_measured(found[-1]), *_cost(found[-1])] if found else []
    parts += [told for view in found for told in (*_privacy(view), *_chosen(view), *_forgotten(view))]
    parts += [
        f"version {view['ordinal']} of {plain(view['model'])} was refused: {plain(view['reason'])}"
        for view in found
        if view["reason"]
    ]
    parts += [
        f"version {view['ordinal']} of {plain(view['model'])} is {plain(doubt)}"
        for view in found
        for doubt in doubts(*task_and_measure(view), view["metrics"])
    ]
    return parts


def _forgotten(version: View) -> list[str]:
    """Return that a version has learned from what was forgotten since, if it has."""
    if not (count := version.get("forgotten_keys", 0)):
        return []
    keys = "a key that was" if count == 1 else f"{count} keys that were"
    return [f"version {version['ordinal']} of {plain(version['model'])} has learned from {keys} forgotten since"]


def task_and_measure(version: View) -> tuple[Task, Measure]:
    """Return a version's task, and the measure that its pipeline compares versions by."""
    task = TASKS[version["task"]]
    return task, task.measure(version["measure"])


def _measured(version: View) -> list[str]:
    """Return every measure of a version in one sentence; none where the headline is all there is."""
    told = [
        f"{measure.name} {number(version['metrics'][measure.name])}"
        for measure in TASKS[version["task"]].measured
        if measure.name in version["metrics"]
    ]
    if len(told) < 2:
        return []
    return [f"version {version['ordinal']} of {plain(version['model'])} on its test split: {', '.join(told)}"]


def _slices(version: View) -> list[RenderableType]:
    """Show a version's slices, the worst first, by its measure and by those that gates hold slices to."""
    _, measure = task_and_measure(version)
    found = worst_first(version["metrics"], measure)
    if not found:
        return []
    held = [gate["gate"].rpartition("/")[2] for gate in version["gates"] if of_slice(gate["gate"])]
    shown = list(dict.fromkeys([measure.name, *held]))
    rows = [
        [plain(each.name), str(each.rows), *(number(each.metrics.get(metric)) for metric in shown)] for each in found
    ]
    title = f"slices of the test split of {plain(version['model'])} version {version['ordinal']}"
    return [table(["slice", ">rows", *(f">{metric}" for metric in shown)], rows, title=title)]


def _cost(version: View) -> list[str]:
    """Return what a version took to train; nothing of one from before that was measured."""
    if not version.get("cpu_s"):
        return []
    memory = size_text(version["peak_memory_bytes"])
    held = f", {version['gpu_s']:.3g} s of a GPU" if version.get("gpu_s") else ""
    took = f"{cpu_text(version)} of processor time{held} and {memory} of memory"
    paid = f", which cost {plain(cost)}" if (cost := cost_text(version)) else ""
    return [f"version {version['ordinal']} of {plain(version['model'])} took {took} to train{paid}"]


def _privacy(version: View) -> list[str]:
    """Return what a version may tell of one row; nothing where nothing is promised."""
    spent = privacy_text(version)
    named = f"version {version['ordinal']} of {plain(version['model'])}"
    return [f"{named} may tell of one row that it learned from: {spent}"] if spent else []


def _chosen(version: View) -> list[str]:
    """Return which trial of a search a version is; nothing where there was none."""
    named = f"version {version['ordinal']} of {plain(version['model'])}"
    return [f"{named} is {plain(told)}" for told in chosen_text(version.get("trials", ()))]


def variants(version: View) -> list[RenderableType]:
    """Show the variants of one version and each of their gates."""
    task, measure = task_and_measure(version)
    shown = (measure.name, task.beside)
    rows = [
        [
            plain(variant["name"]),
            size_text(variant["metrics"].get("size_bytes")),
            number(variant["metrics"].get("latency_ms_batch_1"), 3),
            number(variant["metrics"].get("latency_ms_batch_32"), 3),
            *(number(variant["metrics"].get(metric)) for metric in shown),
            _verdict(version["gates"], variant["name"]),
        ]
        for variant in version["variants"]
    ]
    title = f"variants of {plain(version['model'])} version {version['ordinal']}"
    columns = ["variant", ">size", ">ms, 1 row", ">ms, 32", *(f">{metric}" for metric in shown), "=gates"]
    parts: list[RenderableType] = [table(columns, rows, title=title)]
    if version["gates"]:
        gate_rows = [
            [
                plain(gate["variant"]),
                plain(gate["gate"]),
                f"{gate['measured']:.4g}",
                f"{gate['limit']:.4g}",
                coloured("passed" if gate["passed"] else "failed"),
            ]
            for gate in version["gates"]
        ]
        parts.append(table(["variant", "gate", ">measured", ">limit", "=result"], gate_rows, title="gates"))
        parts += [
            plain(gate["reason"] if of_slice(gate["gate"]) else f"{gate['variant']} does not apply: {gate['reason']}")
            for gate in version["gates"]
            if gate.get("reason")
        ]
    return parts


def releases(found: list[View]) -> list[RenderableType]:
    """Show releases."""
    rows = [
        [
            plain(view["model"]),
            plain(view["alias"]),
            str(view["epoch"]),
            str(view["ordinal"]),
            plain(view["variant"]),
            short_id(view["version_id"]),
            view["cache"],
            moment_text(view["release_time"]),
        ]
        for view in found
    ]
    return [table(["model", "alias", ">epoch", ">version", "variant", "=id", "=cache", "=released"], rows)]


def lineage(found: View) -> list[RenderableType]:
    """Show the chain behind a thing, the thing first, and under it the producers' ranges."""
    rows = []
    if served := found["prediction"]:
        count = f"{served['rows']} row{'' if served['rows'] == 1 else 's'}"
        how = "from the cache" if served["cached"] else f"by {served['variant']}"
        took = f"{served['duration_us'] / 1000:.1f} ms"
        moment = moment_text(served["serve_time"])
        rows.append(["prediction", plain(served["prediction_id"]), plain(f"{count} {how} in {took}, {moment}")])
    if version := found["version"]:
        metric, quality = _quality(version)
        told = f"{version['model']} version {version['ordinal']}, {version['state']}"
        told += "".join(f", {each}" for each in (quality and f"{metric} {quality}", privacy_text(version)) if each)
        rows.append(["version", short_id(version["version_id"]), plain(told)])
    for run in reversed(found["runs"]):
        took = _seconds_between(run["request_time"], run["end_time"])
        rows.append([run["kind"], short_id(run["run_id"]), plain(run["state"] + (f" in {took}" if took else ""))])
    if origin := found["origin"]:
        told = f"{origin['model']} version {origin['ordinal']}, begun from"
        rows.append(["origin", short_id(origin["version_id"]), plain(told)])
    if dataset := found["dataset"]:
        splits = ", ".join(f"{count} {split}" for split, count in dataset["rows"].items())
        rows.append(
            ["dataset", short_id(dataset["dataset_id"]), plain(", ".join(filter(None, (splits, _writers(dataset)))))]
        )
    parts: list[RenderableType] = [table(["=from", "=id", "what"], rows)]
    if (version := found["version"]) and version.get("trials"):
        tried = [[plain(cell) for cell in row] for row in trial_rows(version["trials"], _MOST_TRIALS)]
        parts.append(table([">trial", "settings", ">loss", ">epochs", "state"], tried))
    if dataset and dataset["sources"]:
        parts.append(_ranges(found["topic"] or "", dataset["sources"]))
    return parts


def _writers(dataset: View) -> str:
    """Return by which schemas a dataset's records were written; empty where they have none."""
    schemas = dataset["writer_schemas"]
    return f"written with schema {', '.join(map(short_id, schemas))}" if schemas else ""


def _ranges(topic: str, sources: list[View]) -> RenderableType:
    rows = [
        # Records that came by push have a negative partition: the one of the topic that holds their batches.
        [plain(topic), str(part["partition"]), str(part["start"]), str(part["end"] - 1)]
        if part["partition"] >= 0
        else [PUSHED, str(-1 - part["partition"]), str(part["start"]), str(part["end"] - 1)]
        for part in sources
    ]
    return table(["topic", ">partition", ">first offset", ">last offset"], rows)


def fates(found: list[View]) -> list[RenderableType]:
    """Show what became of a record, by pipeline."""
    rows = [[plain(view["pipeline"]), coloured(FATES[view["fate"]]), plain(_fate(view))] for view in found]
    return [table(["pipeline", "=fate", "what"], rows)]


def _fate(view: View) -> str:
    told = []
    if rejection := view["rejection"]:
        at = f", field {rejection['field']}" if rejection["field"] else ""
        told.append(f"rejected by {rejection['stage']}, rule {rejection['rule']}{at}: {rejection['reason']}")
    if view["dataset_id"]:
        versions = ", ".join(f"{version['model']} {version['ordinal']}" for version in view["versions"])
        learned = f"learned by {versions}" if view["split"] == "train" else f"of {versions}"
        held = [f"{view['split']} split of dataset {short_id(view['dataset_id'])}"]
        if view["left_out"]:
            reason = LEFT_OUT.get(view["left_out"], "for how it looks beside other rows")
            held = [f"left out of the {held[0]} ({view['left_out']}: {reason})"]
        held += [learned] if versions else []
        held += [f"event time {view['event_time']}"] if view["event_time"] else []
        told.append(", ".join(held))
    if view["fate"] == "waiting":
        told.append("no dataset has been cut from its range yet")
    if view["fate"] in ("held", "dropped"):
        more = "`headrace hold list` tells why" if view["fate"] == "held" else "and is part of no dataset"
        told.append(f"in segment {short_id(view['held_segment'])}, which {HOLDS[view['fate']]}: {more}")
    if view["fate"] == "deleted_unread":
        told.append("it was deleted from the topic before the pipeline began to read there")
    if view["fate"] == "left_out" and not view["left_out"]:
        told.append("a dataset was cut from its range without it, and no dead letter tells why any more")
    return "; ".join(told)


def _verdict(gates: list[View], variant: str) -> str:
    results = [gate["passed"] for gate in gates if gate["variant"] == variant]
    if not results:
        return "not judged"
    return coloured("passed") if all(results) else f"[red]{results.count(False)} failed[/]"


def _quality(version: View) -> tuple[str, str]:
    """Return what a version is known by: the measure that its pipeline compares by."""
    metric = task_and_measure(version)[1].name
    return metric, number(version["metrics"].get(metric))


def _baseline(version: View) -> str:
    task, measure = task_and_measure(version)
    found = task.baseline(version["metrics"], measure)
    return number(found.value) if found else ""


def _qualities(versions: list[View]) -> tuple[str, list[str]]:
    """Return the column, title and cells, that shows how good versions are; models of several tasks may mix."""
    qualities = [_quality(version) for version in versions]
    metrics = {metric for metric, quality in qualities if quality}
    if not metrics:
        return "quality", ["" for _ in versions]
    if len(metrics) == 1:
        return f">{metrics.pop()}", [quality for _, quality in qualities]
    return "quality", [f"{metric} {quality}" if quality else "" for metric, quality in qualities]


def _steps(progress: View | None) -> str:
    return f"{progress['step']}/{progress['steps']}" if progress else ""


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many decimals, one from a thousand on, as an rmse of prices, with six digits."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.6g}"


def size_text(size_bytes: float | None) -> str:
    """Return a size for a person; empty for None."""
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1000:.1f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:.1f} MB"


def moment_text(text: str | None) -> str:
    """Return an ISO time in the reader's own time zone, to the minute: a table has no room for more."""
    return _parsed(text).astimezone().strftime("%m-%d %H:%M") if text else ""


def _seconds_between(start: str | None, end: str | None) -> str:
    return f"{(_parsed(end) - _parsed(start)).total_seconds():.1f} s" if start and end else ""


def _parsed(text: Any) -> datetime:
    return datetime.fromisoformat(text)
