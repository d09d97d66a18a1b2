"""What the trainer is told."""

from headrace_runtime.settings import WorkerSettings
from pydantic import Field, field_validator

from headrace_trainer.core.cost import Prices


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
