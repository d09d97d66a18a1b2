"""What the trainer is told."""

from pathlib import Path
from typing import Self

from headrace_runtime.settings import WorkerSettings
from pydantic import Field, field_validator, model_validator

from headrace_trainer.core.cost import Prices
from headrace_trainer.core.pods import Template

_PORTS = 2**16
_LEAST_SECRET = 16
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts what a pod calls its API server with."""


def read_template(file: Path) -> Template:
    """Return what a file says of pods. Raises ValueError that names it."""
    try:
        return Template.read(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


class Settings(WorkerSettings):
    """Settings of the trainer."""

    checkpoint_s: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between two checkpoints of a training run, also within an epoch; 0 for one after each "
        "epoch. The last state is always kept.",
    )
    factory_packages: str = Field(
        "",
        description="Packages, separated by commas, whose functions a pipeline may name under train.network.factory, "
        "such as acme.nets: their code runs in the trainer. They must be on its path. None unless set.",
    )
    price_cpu_hour: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Price of an hour of processor time, by which a version says what it cost to train. Without a "
        "price it says nothing.",
    )
    price_gpu_hour: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Price of an hour for which a run holds a GPU, by the clock.",
    )
    price_currency: str = Field(
        "", max_length=16, description="What the prices are counted in, such as EUR; shown behind each cost."
    )

    nodes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Machines over which processes of a run are spread: this one, and others on which `python -m "
        "headrace_trainer.node` runs with the same store and settings, but for the next one. Runs of fewer processes "
        "stay here.",
    )
    node: int = Field(
        0,
        ge=0,
        description="Which of the machines this is, from 0: the trainer that takes commands is 0.",
    )
    meeting: str = Field(
        "",
        description="Address of machine 0 at which processes of several machines meet, host:port. They talk in plain "
        "text: in a network of their own.",
    )
    meeting_secret: str = Field(
        "", description="What machines know each other's work by, the same on each: 16 characters or more.", repr=False
    )

    pods_template: Path | None = Field(
        None,
        description="On Kubernetes: file that says what pods of their own runs get, JSON as the chart writes it. The "
        "trainer makes a JobSet of them for each such run, follows it, and deletes it. Unset: runs train here.",
    )
    pods_processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes of each such pod at most: as many as it has GPUs, or cores.",
    )
    pods_from: int = Field(
        2,
        ge=1,
        description="Least `train.compute.processes` for which a run gets pods of its own; 1 for every run.",
    )
    pods_patience_s: float = Field(
        3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which a run waits for its pods, while the API server refuses or does not answer, or "
        "they are not all ready; then the attempt has failed, with the reason. Where a queue admits runs (Kueue), as "
        "long as one may wait in it.",
    )
    pods_owner: str = Field(
        "", description="The uid of this pod: Kubernetes deletes the pods of its runs when it goes. The chart sets it."
    )
    pods_account: Path = Field(
        _ACCOUNT, description="Folder with `token`, `ca.crt` and `namespace` of an account that may make JobSets."
    )

    @model_validator(mode="after")
    def _pods_or_machines(self) -> Self:
        if self.pods_template is not None and self.nodes > 1:
            raise ValueError("HEADRACE_PODS_TEMPLATE: expected none beside HEADRACE_NODES above 1: runs go to either")
        return self

    @model_validator(mode="after")
    def _machines_can_meet(self) -> Self:
        if self.nodes == 1:
            return self
        try:
            _ = self.meeting_place
        except ValueError as error:
            raise ValueError(f"{error} beside HEADRACE_NODES above 1") from error
        if len(self.meeting_secret) < _LEAST_SECRET:
            raise ValueError(
                f"HEADRACE_MEETING_SECRET: expected {_LEAST_SECRET} characters beside HEADRACE_NODES above 1"
            )
        if self.node >= self.nodes:
            raise ValueError(f"HEADRACE_NODE: expected one of 0 to {self.nodes - 1}, got {self.node}")
        return self

    @property
    def meeting_place(self) -> tuple[str, int]:
        """Host and port of the meeting. Raises ValueError where there are none."""
        host, _, port = self.meeting.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < _PORTS:
            raise ValueError("HEADRACE_MEETING: expected host:port")
        return host, int(port)

    @property
    def prices(self) -> Prices:
        """The prices, those that are set."""
        return Prices(self.price_cpu_hour, self.price_gpu_hour, self.price_currency.strip())

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages, one by one."""
        return tuple(part for each in self.factory_packages.split(",") if (part := each.strip()))

    @field_validator("pods_template")
    @classmethod
    def _is_a_template(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_template(value)
        return value

    @field_validator("factory_packages")
    @classmethod
    def _names_packages(cls, value: str) -> str:
        for each in value.split(","):
            if each.strip() and not all(part.isidentifier() for part in each.strip().split(".")):
                raise ValueError("expected names of packages such as acme.nets, separated by commas")
        return value
