"""`up`, `down` and `logs`: the embedded platform on this machine."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from headrace_client.addresses import PLATFORM_FILE
from headrace_client.cli.local import embedded_platform
from headrace_client.cli.logs import json_line, plain_line, show
from headrace_client.cli.output import JsonOption, note, plain, print_parts, say, table
from headrace_client.errors import PlatformFailed


def up(
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove the state of earlier platforms first: topics, objects, logs.")
    ] = False,
) -> None:
    """Start Kafka, Valkey and every service on this machine; ends when all of them are ready."""
    with embedded_platform() as platform:
        platform.start(note, fresh=fresh)
        rows = [
            ["kafka", platform.bootstrap_servers],
            ["cache", without_secret(platform.redis_url)],
            *platform.addresses.items(),
            *([["inference, REST", platform.settings.rest_address]] if platform.settings.rest_address else []),
        ]
        addresses = table(["=service", "address"], [[plain(name), plain(address)] for name, address in rows])
        ending = f"state in {plain(platform.home)}; `headrace status` shows it, `headrace down` stops it"
        print_parts([addresses, ending])


def without_secret(url: str) -> str:
    """Return a URL without its password."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def down() -> None:
    """Stop the platform that `up` started; its state stays."""
    with embedded_platform() as platform:
        running = (platform.home / PLATFORM_FILE).exists()
        platform.stop(note)
    say("stopped; its state stays" if running else f"no platform runs in {platform.home}")


def logs(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="One service; all of them without a name.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of each log to begin with.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the end of the services' logs; with --json one object a line, in the shape of the services' own."""
    with embedded_platform() as platform:
        everything = sorted((platform.home / "logs").glob("*.log"))
        paths = [platform.log_path(service)] if service else everything
        if not any(path.exists() for path in paths):
            raise PlatformFailed(f"there is no log in {platform.home / 'logs'}: has `headrace up` run here?")
        show(paths, lines=lines, follow=follow, form=json_line if as_json else plain_line(paths, named=not service))
