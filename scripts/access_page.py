"""The generated part of docs/producers.md: groups, transactional ids and permissions of each service."""

from __future__ import annotations

from headrace_runtime.access import Permission, permissions
from headrace_runtime.services import SERVICES


def access_tables() -> str:
    """Return the tables as Markdown."""
    names = [
        "| service | consumer groups | transactional ids |",
        "|---|---|---|",
        *(f"| {name} | {_names(each.groups)} | {_names(each.transactional_ids)} |" for name, each in SERVICES.items()),
    ]
    needed = [
        "| service | resource | name | operations |",
        "|---|---|---|---|",
        *(_row(permission) for service in SERVICES for permission in permissions(service)),
    ]
    return "\n".join([*names, "", *needed])


def _names(templates: tuple[str, ...]) -> str:
    shown = (template.replace("{", "<").replace("}", ">") for template in templates)
    return ", ".join(f"`{name}`" for name in shown) or "none"


def _row(permission: Permission) -> str:
    name = f"{permission.name}*" if permission.prefixed else permission.name
    return f"| {permission.service} | {permission.resource} | `{name}` | {', '.join(permission.operations)} |"
