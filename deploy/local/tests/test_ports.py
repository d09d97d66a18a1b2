"""Busy and free ports."""

from __future__ import annotations

import os
import socket

import pytest
from headrace_local import ports
from headrace_local.errors import PortBusy


def test_every_busy_address_is_named_with_holder_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        listens = {
            "HEADRACE_KAFKA_ADDRESS": f"127.0.0.1:{first.getsockname()[1]}",
            "HEADRACE_VALKEY_ADDRESS": f"127.0.0.1:{second.getsockname()[1]}",
        }
        with pytest.raises(PortBusy) as caught:
            ports.check_free(listens)
    assert len(caught.value.problems) == 2
    for problem, (setting, address) in zip(caught.value.problems, listens.items(), strict=True):
        assert address in problem
        assert f"(pid {os.getpid()})" in problem
        assert setting in problem


def test_free_ports_are_free_and_distinct() -> None:
    found = ports.find_free(20)
    assert len(set(found)) == 20
    ports.check_free({f"HEADRACE_{port}": f"127.0.0.1:{port}" for port in found})
    row = ports.find_free(6, consecutive=True)
    assert row == list(range(row[0], row[0] + 6))


def test_a_port_is_not_given_again_while_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_walk", iter(()))
    ports.pick_from(range(31_000, 31_040))
    found = [port for _ in range(3) for port in ports.find_free(5)] + ports.find_free(5, consecutive=True)
    assert len(set(found)) == 20
    assert set(found) <= set(range(31_000, 31_040))
