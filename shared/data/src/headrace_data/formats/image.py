"""Pictures in PNG or JPEG: the value of `pixels` has the shape of the field that takes it, from 0 to 255."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from headrace_data.formats.decoding import Decoder
from headrace_data.formats.files import FileDecoder, require_library
from headrace_data.formats.schemas import SchemaInvalid

PIXELS: Final = "pixels"


def image_form(shape: Sequence[int] | None) -> dict[str, Any]:
    """Return what a shape says of pictures. Raises SchemaInvalid where it is that of none."""
    match tuple(shape or ()):
        case (height, width):
            channels, planes = 1, False
        case (1 | 3 as channels, height, width):
            planes = True
        case (height, width, 1 | 3 as channels):
            planes = False
        case _:
            raise SchemaInvalid(
                f"image: expected a field that is {PIXELS}, of shape [height, width] or [1, height, width] (gray), "
                f"[3, height, width] or [height, width, 3] (red, green, blue), got "
                f"{'none' if shape is None else list(shape)}"
            )
    return {"height": height, "width": width, "channels": channels, "planes": planes}


def image_decoder(told: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> Decoder:
    """Return what reads pictures. Raises SchemaInvalid, and ImportError where Pillow is not installed."""
    form = image_form(shapes.get(PIXELS))
    require_library("PIL", "Pillow", "pictures")
    return FileDecoder("image", {**form, "resize": told["size"] == "resize"}, _row)


def _row(meta: dict[str, Any], body: bytes) -> dict[str, Any]:
    return {PIXELS: list(body), **meta}
