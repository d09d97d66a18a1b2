import threading

from headrace.events.v1 import record_pb2
from headrace_preprocessing.transport.awaited_specs import KNOWN_FOR_S, AwaitedSpecs
from headrace_runtime.records import Record


class View:
    """The applied specs, taken in when a test says so."""

    def __init__(self) -> None:
        self.questions: list[threading.Event] = []
        self.now_s = 0.0

    def ask(self) -> threading.Event:
        self.questions.append(threading.Event())
        return self.questions[-1]

    def of(self, digest: str) -> AwaitedSpecs:
        return AwaitedSpecs(digest, self.ask, lambda: self.now_s)


def message(digest: str) -> Record:
    return Record("raw", 0, 0, None, record_pb2.RecordBatch(spec_digest=digest).SerializeToString())


def test_messages_of_the_spec_in_force_and_of_none_never_wait() -> None:
    view = View()
    assert view.of("mine").ready([message("mine"), message(""), Record("raw", 0, 1, None, b"\xff rubbish")])
    assert not view.questions


def test_a_message_of_another_spec_waits_until_everything_applied_is_taken_in() -> None:
    view = View()
    awaited = view.of("mine")
    assert not awaited.ready([message("mine"), message("other")])
    assert not awaited.ready([message("other")])
    (question,) = view.questions
    question.set()
    assert awaited.ready([message("other"), message("mine")])


def test_what_was_older_once_may_be_newer_later() -> None:
    view = View()
    awaited = view.of("mine")
    awaited.ready([message("other")])
    view.questions[0].set()
    view.now_s = KNOWN_FOR_S
    assert awaited.ready([message("other")])
    view.now_s = 3 * KNOWN_FOR_S
    assert not awaited.ready([message("other")])
    assert len(view.questions) == 2
