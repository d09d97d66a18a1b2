"""The selector that kafka-python waits with."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator

import pytest
from headrace_runtime.known_sockets import KnownSockets
from headrace_runtime.settings import KafkaSettings


class Textless(socket.socket):
    """A socket of which nobody may make a text."""

    def __repr__(self) -> str:
        raise AssertionError("a text was made of a socket")


@pytest.fixture
def pair() -> Iterator[tuple[Textless, Textless]]:
    first, second = socket.socketpair()
    with Textless(fileno=first.detach()) as one, Textless(fileno=second.detach()) as other:
        yield one, other


def test_every_client_of_kafka_waits_with_it() -> None:
    assert KafkaSettings().kafka_client()["selector"] is KnownSockets


def test_sockets_that_it_does_not_know_need_no_text(pair: tuple[Textless, Textless]) -> None:
    one, other = pair
    with KnownSockets() as selector:
        with pytest.raises(KeyError):
            selector.get_key(one)
        assert (
            selector.register(one, selectors.EVENT_READ, "a") == selector.get_key(one) == selector.get_key(one.fileno())
        )
        other.send(b"x")
        assert selector.select(5) == [(selector.get_key(one), selectors.EVENT_READ)]
        selector.modify(one, selectors.EVENT_READ | selectors.EVENT_WRITE, "b")
        assert selector.get_key(one).data == "b"
        selector.unregister(one)
        with pytest.raises(KeyError):
            selector.get_key(one)


def test_a_closed_socket_is_found_as_long_as_it_is_registered(pair: tuple[Textless, Textless]) -> None:
    one, _ = pair
    with KnownSockets() as selector:
        key = selector.register(one, selectors.EVENT_READ)
        one.close()
        assert selector.get_key(one) == key
        selector.unregister(one)
        with pytest.raises(ValueError, match="Invalid file"):
            selector.get_key(one)


def test_a_number_that_another_socket_has_by_now_can_be_waited_for(pair: tuple[Textless, Textless]) -> None:
    one, other = pair
    with KnownSockets() as selector:
        number = selector.register(one, selectors.EVENT_READ).fd
        # What the kernel forgot with the file that was closed cannot be modified, and is forgotten here, too.
        one.close()
        os.dup2(other.fileno(), number)
        try:
            with pytest.raises(FileNotFoundError):
                selector.modify(number, selectors.EVENT_WRITE)
            with pytest.raises(KeyError):
                selector.get_key(number)
            assert selector.register(number, selectors.EVENT_WRITE) == selector.get_key(number)
        finally:
            os.close(number)
