"""The records of a run: which there are, what is wrong with some, and what must become of each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

PIPELINE = "chaos"
PARTITIONS = 3
PRODUCERS = 3
MOST_PARTITIONS = 8
POISON_KEY = b"poison"
"""Key of what somebody else writes into a pipeline's own topics; Headrace knows nothing of it."""
RULE_HEADER = "expected-rule"
"""Header in which a producer tells the audit what it has done to a record; Headrace knows nothing of it."""

SPEC = f"""\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {PIPELINE}}}
stream:
  topic: {PIPELINE}
  format: json
  key: id
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: value, type: float32, role: feature, range: [0, 1]}}
    - {{name: digit, type: int64, role: label, range: [0, 9]}}
prepare:
  clean: {{missing: drop, duplicates: drop, outOfRange: drop, duplicateWindow: 100000}}
train:
  network: {{kind: mlp, hidden: [8], activation: relu}}
  optimizer: {{kind: adam, learningRate: 0.001}}
  epochs: 1
  batchSize: 32
  seed: 1
"""

FAULTS = ("json", "type", "missing", "outOfRange", "duplicates")
FAULTY = 0.02
"""Share of the records that are bad on purpose."""
LONGEST_ECHO = 5_000
"""How many records back a duplicate's first occurrence lies at most: well inside the pipeline's window."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of a producer."""

    key: bytes
    value: bytes
    rule: str
    """The rule that it breaks; empty for a sound one."""


def messages(seed: int, producer: int, count: int) -> Iterator[Sent]:
    """Yield one producer's messages; ids are unique among all producers but for the duplicates."""
    dice = random.Random(f"{seed}/{producer}")
    echoes: list[int] = []
    for number in range(count):
        identity = producer + PRODUCERS * number
        rule = dice.choice(FAULTS) if dice.random() < FAULTY else ""
        if rule == "duplicates":
            if not echoes:
                rule = ""
            else:
                # Each is repeated once at most, so that a message is known by its id and its rule.
                identity = echoes.pop(dice.randrange(len(echoes)))
        elif not rule and dice.random() < 0.1:
            echoes.append(identity)
        if echoes and number - echoes[0] // PRODUCERS > LONGEST_ECHO:
            echoes.pop(0)
        yield Sent(str(identity).encode(), _value(identity, rule, dice), rule)


def _value(identity: int, rule: str, dice: random.Random) -> bytes:
    row: dict[str, object] = {"id": identity, "value": round(dice.random(), 4), "digit": identity % 10}
    if rule == "json":
        return json.dumps(row).encode()[:-3]
    if rule == "type":
        row["value"] = "much"
    elif rule == "missing":
        del row["digit"]
    elif rule == "outOfRange":
        row["value"] = 7.5
    return json.dumps(row).encode()
