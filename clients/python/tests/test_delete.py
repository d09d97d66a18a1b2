"""`delete`: the pipeline in force, or what deleted ones have left."""

from __future__ import annotations

import json


def test_what_stays_is_deleted_by_a_command_of_its_own(headrace, registry):
    result = headrace("delete", "pipeline", "penguins", "--yes")
    assert result.exit_code == 0
    assert "stays until `headrace delete leftovers penguins`" in result.stdout
    assert registry.requests[0].purge is False


def test_leftovers_leave_the_pipeline_in_force(headrace, registry):
    told = headrace("delete", "leftovers", "penguins")
    assert "deleted: topics penguins.raw; groups none" in told.stdout
    assert "stays: pipeline 'penguins' as it is in force" in told.stdout
    view = json.loads(headrace("delete", "leftovers", "penguins", "--json").stdout)
    assert view["purged"] == {"topics": ["penguins.raw"], "groups": []}
    assert view["in_force"] is True
    assert [type(request).__name__ for request in registry.requests] == ["DeleteLeftoversRequest"] * 2
