"""What the trainer is told."""

from typing import Self

from headrace_runtime.settings import WorkerSettings
from pydantic import Field, field_validator, model_validator

from headrace_trainer.core.cost import Prices

_PORTS = 2**16
_LEAST_SECRET = 16


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

    @model_validator(mode="after")
    def _machines_can_meet(self) -> Self:
        if self.nodes == 1:
            return self
        host, _, port = self.meeting.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < _PORTS:
            raise ValueError("HEADRACE_MEETING: expected host:port beside HEADRACE_NODES above 1")
        if len(self.meeting_secret) < _LEAST_SECRET:
            raise ValueError(
                f"HEADRACE_MEETING_SECRET: expected {_LEAST_SECRET} characters beside HEADRACE_NODES above 1"
            )
        if self.node >= self.nodes:
            raise ValueError(f"HEADRACE_NODE: expected one of 0 to {self.nodes - 1}, got {self.node}")
        return self

    @property
    def prices(self) -> Prices:
        """The prices, those that are set."""
        return Prices(self.price_cpu_hour, self.price_gpu_hour, self.price_currency.strip())

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages, one by one."""
        return tuple(part for each in self.factory_packages.split(",") if (part := each.strip()))

    @field_validator("factory_packages")
    @classmethod
    def _names_packages(cls, value: str) -> str:
        for each in value.split(","):
            if each.strip() and not all(part.isidentifier() for part in each.strip().split(".")):
                raise ValueError("expected names of packages such as acme.nets, separated by commas")
        return value
