"""What a user sees when something is wrong: one line and an exit code, never a traceback."""

from __future__ import annotations

import errno
import subprocess
import sys

import grpc
import headrace_client
import pytest
from headrace_client import RegistryClient, errors
from headrace_client.cli import catalogue, entry
from headrace_client.cli.commands import COMMANDS, called
from opentelemetry import trace


def test_an_unreachable_registry(headrace):
    result = headrace("get", "runs")
    assert result.exit_code == 1
    assert result.stderr == ("error: cannot reach the registry at 127.0.0.1:1: is the platform up? run `headrace up`\n")
    assert result.stdout == ""


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback(headrace, place):
    arguments = ["get", "runs"]
    arguments.insert(place, "--debug")
    result = headrace(*arguments)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.rstrip().endswith("run `headrace up`")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.NotPossibleNow),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.TooLarge),
        (grpc.StatusCode.PERMISSION_DENIED, errors.Rejected),
    ],
)
def test_a_refusal_keeps_the_servers_words(registry, code, kind):
    registry.refusal = (code, "topic 'scans' does not exist")
    with RegistryClient() as client, pytest.raises(kind, match=r"^topic 'scans' does not exist$") as caught:
        client.lags()
    assert caught.type is kind
    assert caught.value.code == code.name


def test_a_refusal_without_words(registry):
    registry.refusal = (grpc.StatusCode.ABORTED, "")
    with RegistryClient() as client, pytest.raises(errors.Rejected, match="failed with ABORTED and gave no reason"):
        client.lags()


def test_an_internal_error_says_whose(registry):
    registry.refusal = (grpc.StatusCode.INTERNAL, "internal error, trace 17")
    with (
        RegistryClient() as client,
        pytest.raises(errors.Rejected, match=r"the registry at .* failed: internal error, trace 17"),
    ):
        client.lags()


def test_a_deadline(registry, canned):
    registry.states = [canned.state()]
    with RegistryClient() as client, pytest.raises(errors.TimedOut, match="did not answer in time"):
        list(client.watch("digits", timeout_s=0.2))


@pytest.mark.parametrize(
    ("write", "hint"),
    [
        (lambda client: client.apply("name: digits"), "may be in force all the same; applying it once more is safe"),
        (lambda client: client.freeze("digits"), "may be frozen all the same: look at `headrace get datasets`"),
        (lambda client: client.rollback("digits"), "may be made all the same: look at `headrace get releases`"),
        (
            lambda client: client.move_rollout("digits", advance=True),
            "may have moved all the same: look at `headrace roll",
        ),
        (lambda client: client.recalibrate("digits"), "may be asked for all the same: look at `headrace get runs`"),
    ],
)
def test_a_write_without_an_answer_may_have_been_done(registry, write, hint):
    registry.refusal = (grpc.StatusCode.DEADLINE_EXCEEDED, "")
    with RegistryClient() as client, pytest.raises(errors.TimedOut, match=f"did not answer in time; .*{hint}"):
        write(client)


def test_a_wrong_setting_is_wrong_usage(headrace, monkeypatch):
    monkeypatch.setenv("HEADRACE_REGISTRY_ADDRESS", "nowhere")
    result = headrace("get", "runs")
    assert result.exit_code == 2
    assert "HEADRACE_REGISTRY_ADDRESS: expected HOST:PORT such as 127.0.0.1:7020, got 'nowhere'" in result.stderr


def test_an_unexpected_error_is_one_line(headrace, registry, monkeypatch):
    def breaks(*_):
        raise ZeroDivisionError("by [zero]")

    monkeypatch.setitem(catalogue.TABLES, catalogue.Kind.PIPELINES, breaks)
    result = headrace("get", "pipelines")
    assert result.exit_code == 1
    assert result.stderr == "error: unexpected ZeroDivisionError: by [zero] (`--debug` shows where)\n"


def test_a_reader_that_has_gone_is_no_error_to_report(headrace, registry, monkeypatch):
    def breaks(*_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setitem(catalogue.TABLES, catalogue.Kind.PIPELINES, breaks)
    result = headrace("get", "pipelines")
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize(
    "arguments", [["gte", "runs"], ["get"], ["wait"], ["apply", "/no/such/file"], ["up", "--frehs"]]
)
def test_wrong_usage(headrace, arguments):
    result = headrace(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_help_names_every_command(headrace):
    result = headrace("--help")
    assert result.exit_code == 0
    for command in ("up", "down", "status", "logs", "validate", "apply", "freeze", "get", "wait", "predict"):
        assert f" {command} " in result.stdout


def test_an_active_trace_goes_along(registry, inference):
    from headrace_client import InferenceClient

    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    parent = "00-00000000000000000000000000000abc-0000000000000def-01"
    with RegistryClient() as client, InferenceClient() as predictor:
        client.lags()
        assert "traceparent" not in registry.metadata[-1]
        with trace.use_span(trace.NonRecordingSpan(context)):
            client.lags()
            predictor.ready()
    assert registry.metadata[-1]["traceparent"] == parent
    assert inference.metadata[-1]["traceparent"] == parent


def test_every_error_is_drawn():
    drawn = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    assert all(f"{kind.__name__} " in drawn or kind is errors.HeadraceClientError for kind in kinds)


def test_an_interrupt_while_starting_is_quiet(monkeypatch):
    class Interrupts:
        def find_spec(self, name, *_):
            if name == "headrace_client.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.delitem(sys.modules, "headrace_client.cli.commands")
    monkeypatch.setattr(sys, "meta_path", [Interrupts(), *sys.meta_path])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 130


def test_a_command_waits_for_no_import_of_another():
    assert list(called(["--debug", "get", "runs"])) == ["get"]
    assert called(["--help"]) == called(["gte"]) == called([]) == COMMANDS
    program = "import sys; from headrace_client.cli import commands; commands.application(['delete'])"
    line = [sys.executable, "-c", f"{program}; print(*sys.modules)"]
    imported = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    ours = {name.removeprefix("headrace_client.cli.") for name in imported if name.startswith("headrace_client.cli.")}
    assert ours & {module for _, module, _ in COMMANDS.values()} == {"delete"}
    assert "numpy" not in imported


def test_the_package_offers_what_it_names():
    assert all(getattr(headrace_client, name) is not None for name in headrace_client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = headrace_client.nothing
