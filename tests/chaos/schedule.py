"""What happens to which process or topic when, all of it derived from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

SERVICES = ("ingestion", "preprocessing")
MOST_INSTANCES = 3
QUIET_S = 4.0
"""The shortest time between two events."""
FILL_S = (4.0, 7.0)
"""How long a disk stays full at least: as long as a freeze needs to meet it, and to be tried again."""
PAUSE_S = (7.5, 12.0)
"""How long a process stands still: always longer than its session, so that its partitions move on."""

KILL, PAUSE, RESTART, ADD, REMOVE, BROKER = "kill", "pause", "restart", "add", "remove", "kill broker"
POISON, GROW, ANEW, FREEZE, FILL = "poison", "grow", "make anew", "freeze", "fill disk of"
ROUND = (KILL, PAUSE, ADD, KILL, RESTART, REMOVE, PAUSE, ADD, KILL, POISON, GROW, ANEW, FREEZE, FILL)
"""One round of events; its order is shuffled, except that an instance is added before one is removed."""
ROUND_S = 70.0
TARGETS = {
    BROKER: "kafka",
    POISON: "topics",
    GROW: "the producers' topic",
    ANEW: "a topic",
    FREEZE: "a dataset",
    FILL: "preprocessing",
}
"""What meets no instance in particular, and what it meets."""


@dataclass(frozen=True, slots=True)
class Event:
    """One disturbance."""

    at_s: float
    """Seconds after the start."""
    action: str
    target: str
    """The process that it meets, or what else."""
    for_s: float = 0.0
    """How long a pause lasts, or a disk is full."""

    def __str__(self) -> str:
        length = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:7.1f} s  {self.action} {self.target}{length}".rstrip()


@dataclass(slots=True)
class _Cast:
    """The instances that the schedule knows to exist at a moment, and until when each is left alone."""

    names: dict[str, list[str]] = field(default_factory=lambda: {service: [service] for service in SERVICES})
    busy: dict[str, float] = field(default_factory=dict)

    def idle(self, now_s: float, service: str) -> list[str]:
        return [name for name in self.names[service] if self.busy.get(name, 0.0) <= now_s]

    def add(self, service: str) -> str:
        number = next(number for number in range(1, 100) if f"{service}-{number}" not in self.names[service])
        self.names[service].append(f"{service}-{number}")
        return self.names[service][-1]


def plan(seed: int, length_s: float, *, broker: bool) -> list[Event]:
    """Return the events of `length_s` seconds, in order; the same for the same seed and length."""
    dice = random.Random(seed)
    actions = list(_actions(dice, length_s, broker=broker))
    step = length_s / (len(actions) + 1)
    cast = _Cast()
    events: list[Event] = []
    for number, action in enumerate(actions, 1):
        at_s = step * number + dice.uniform(-0.3, 0.3) * (step - min(step, QUIET_S))
        event = _cast_event(dice, cast, at_s, action)
        if event:
            events.append(event)
    return events


def counts(events: Sequence[Event]) -> Counter[str]:
    """Return how often each action happens."""
    return Counter(event.action for event in events)


def _actions(dice: random.Random, length_s: float, *, broker: bool) -> Iterator[str]:
    rounds = max(1, round(length_s / ROUND_S))
    broker_round = dice.randrange(rounds) if broker else -1
    for number in range(rounds):
        one = list(ROUND)
        dice.shuffle(one)
        # At least one instance is there to be removed.
        if one.index(ADD) > one.index(REMOVE):
            first, last = one.index(REMOVE), one.index(ADD)
            one[first], one[last] = one[last], one[first]
        if number == broker_round:
            one.insert(len(one) // 2, BROKER)
        yield from one


def _cast_event(dice: random.Random, cast: _Cast, at_s: float, action: str) -> Event | None:
    """Choose whom it meets; None when there is nobody, as when every instance has been removed already."""
    if action in TARGETS:
        length = dice.uniform(*FILL_S) if action == FILL else 0.0
        return Event(at_s, action, TARGETS[action], length)
    services = dice.sample(SERVICES, len(SERVICES))
    if action == ADD:
        service = min(services, key=lambda name: len(cast.names[name]))
        return Event(at_s, action, cast.add(service)) if len(cast.names[service]) < MOST_INSTANCES else None
    for service in services:
        names = cast.idle(at_s, service)
        if action == REMOVE:
            names = [name for name in names if name != service]
        if not names:
            continue
        name = dice.choice(names)
        if action == REMOVE:
            cast.names[service].remove(name)
        length = dice.uniform(*PAUSE_S) if action == PAUSE else 0.0
        # A process that was killed or stopped needs a moment before it can be met again.
        cast.busy[name] = at_s + length + QUIET_S
        return Event(at_s, action, name, length)
    return None
