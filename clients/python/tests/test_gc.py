"""`gc`: what went, what will, and what stays."""

from __future__ import annotations

import json


def test_what_went_and_what_stays_is_told(headrace, registry):
    told = headrace("gc")
    assert told.exit_code == 0
    assert told.stdout.splitlines() == [
        "version 4 of model species is retired: pipeline 'penguins' retains others",
        "3 objects, 2.5 MB, removed, needed by nothing: parts of datasets",
        "3 objects, 2.5 MB, marked, removed by a collection an hour from now or later: documents",
        "3 objects, 2.5 MB, stay, needed by versions",
    ]
    assert registry.requests[-1].dry_run is False


def test_a_dry_run_says_so(headrace, registry):
    assert headrace("gc", "--dry-run").stdout.startswith("nothing was changed; a collection now would say:")
    assert registry.requests[-1].dry_run is True
    view = json.loads(headrace("gc", "--dry-run", "--json").stdout)
    assert view["dry_run"] is True
    assert view["objects"][0] == {
        "fate": "removed",
        "kind": "parts of datasets",
        "objects": 3,
        "size_bytes": 2_500_000,
    }
    assert view["retired"] == [{"pipeline": "penguins", "model": "species", "ordinal": 4, "version_id": "sha256:4"}]
