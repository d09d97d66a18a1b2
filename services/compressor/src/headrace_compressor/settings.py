"""What the compressor is told."""

from headrace_runtime.settings import WorkerSettings
from pydantic import Field


class Settings(WorkerSettings):
    """Settings of the compressor."""

    cpu_class: str = Field(
        "",
        pattern=r"^[a-z0-9-]*$",
        max_length=32,
        description="Class of the processor, such as avx2, that measurements are of: what passes is served by replicas "
        "of the same. Empty: the class of this machine.",
    )
    for_class: bool = Field(
        False,
        description="Whether it takes the measurements that name its class, as `serve.classes` of a pipeline asks for, "
        "in place of all work that names none. Such compressors are a consumer group for each class.",
    )
