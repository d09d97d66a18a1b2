"""`topic`: the producers' topics, before any pipeline reads them."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace_client.cli.output import JsonOption, bytes_text, note, plain, print_json, print_parts, say, table

TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="Name of the topic.")]

app = typer.Typer(help="Producers' topics: create, list, describe, sample.", no_args_is_help=True)


@app.command("create")
def create(
    topic: TopicArgument,
    partitions: Annotated[
        int, typer.Option("--partitions", "-p", min=1, help="Partitions: the most instances that can share the work.")
    ] = 3,
    replication: Annotated[
        int | None, typer.Option("--replication", min=1, help="Replicas of each; the brokers' default without it.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="KEY=VALUE", help="A setting, such as retention.ms=604800000; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a topic for producers to send to; ends with 1 when it exists."""
    from headrace_client.topics import create_topic

    made = create_topic(topic, partitions, replication=replication or -1, config=_settings(config or []))
    if as_json:
        print_json(made)
    else:
        count = len(made["partitions"])
        say(f"created topic '{topic}' with {count} partition{'' if count == 1 else 's'}")
        say("send records to it, then draft a pipeline of them: `headrace init --topic " + topic + "`")


@app.command("list")
def list_all(
    every: Annotated[bool, typer.Option("--all", help="Headrace's and Kafka's own topics as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the producers' topics by name."""
    from headrace_client.topics import list_topics

    found = list_topics(every=every)
    if as_json:
        print_json(found)
    elif not found:
        note("no topic yet: `headrace topic create TOPIC` makes one")
    else:
        rows = [[plain(view["topic"]), str(view["partitions"]), str(view["messages"])] for view in found]
        print_parts([table(["topic", ">partitions", ">messages"], rows)])


@app.command("describe")
def describe(topic: TopicArgument, as_json: JsonOption = False) -> None:
    """Describe a topic: its partitions with their offsets and replicas, and the settings that are its own."""
    from headrace_client.topics import describe_topic

    view = describe_topic(topic)
    if as_json:
        print_json(view)
        return
    rows = [
        [
            str(each["partition"]),
            str(each["first_offset"]),
            str(each["end_offset"]),
            str(each["leader"]),
            ", ".join(map(str, each["replicas"])),
            ", ".join(map(str, each["in_sync"])),
        ]
        for each in view["partitions"]
    ]
    columns = [">partition", ">first offset", ">end offset", ">leader", "replicas", "in sync"]
    settings = [plain(f"{key} = {value}") for key, value in sorted(view["config"].items())]
    print_parts([table(columns, rows), "\n".join(settings) or "every setting is the brokers' default"])


@app.command("sample")
def sample(
    topic: TopicArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100_000, help="Most records to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show a topic's newest records, read outside of any consumer group."""
    from headrace_client.sampling import newest, record_view

    found = newest(topic, count, "topic sample")
    if as_json:
        print_json([record_view(record) for record in found])
    elif not found:
        note(f"topic '{topic}' holds no record")
    else:
        rows = [
            [
                f"{record.partition}:{record.offset}",
                record_view(record)["time"],
                plain(bytes_text(record.key or b"")),
                "[dim]none[/]" if record.value is None else plain(bytes_text(record.value)),
            ]
            for record in found
        ]
        print_parts([table(["=place", "=time", "key", "value"], rows)])


def _settings(pairs: list[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals) or key in settings:
            raise typer.BadParameter(f"expected KEY=VALUE, each key once, got '{pair}'", param_hint="--config")
        settings[key] = value
    return settings
