"""Triton's tracing, log settings and shared memory, answered as Triton does with all of it off."""

from __future__ import annotations

import logging
from typing import Any

from headrace import open_inference as oip
from headrace_runtime.errors import NotFound, NotSupported

from headrace_inference.core.shelf import Shelf

TRACE_SETTINGS = {
    "trace_file": "",
    "trace_level": "OFF",
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_mode": "triton",
}
"""Triton's defaults."""


class SwitchedOff:
    """Answers questions about the state of tracing, log and shared memory, and refuses changes of it."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def trace_setting(self, request: Any) -> Any:
        """Return a TraceSettingResponse. Raises NotFound for an unknown model, and NotSupported for changes."""
        if request.model_name:
            self._shelf.knows(request.model_name)
        if request.settings:
            raise NotSupported("traces are OpenTelemetry's and not set by calls: see HEADRACE_OTLP_ENDPOINT")
        answer = oip.TraceSettingResponse()
        for name, value in TRACE_SETTINGS.items():
            answer.settings[name].value.append(value)
        return answer

    def log_settings(self, request: Any) -> Any:
        """Return a LogSettingsResponse. Raises NotSupported for changes."""
        if request.settings:
            raise NotSupported("the log is not set by calls: see HEADRACE_LOG_LEVEL")
        answer, log = oip.LogSettingsResponse(), logging.getLogger()
        answer.settings["log_file"].string_param = ""
        for level in ("info", "warning", "error"):
            answer.settings[f"log_{level}"].bool_param = log.isEnabledFor(logging.getLevelNamesMapping()[level.upper()])
        answer.settings["log_verbose_level"].uint32_param = int(log.isEnabledFor(logging.DEBUG))
        answer.settings["log_format"].string_param = "default"
        return answer

    def system_status(self, request: Any) -> Any:
        """Return a SystemSharedMemoryStatusResponse. Raises NotFound when a region is named."""
        return _no_regions("system", request, oip.SystemSharedMemoryStatusResponse())

    def cuda_status(self, request: Any) -> Any:
        """Return a CudaSharedMemoryStatusResponse. Raises NotFound when a region is named."""
        return _no_regions("cuda", request, oip.CudaSharedMemoryStatusResponse())

    def register(self, _: Any) -> Any:
        """Raise NotSupported."""
        raise NotSupported("shared memory is not supported, send the contents")

    def unregister_system(self, _: Any) -> Any:
        """Return a SystemSharedMemoryUnregisterResponse. As in Triton, an unknown region is no error."""
        return oip.SystemSharedMemoryUnregisterResponse()

    def unregister_cuda(self, _: Any) -> Any:
        """Return a CudaSharedMemoryUnregisterResponse. As in Triton, an unknown region is no error."""
        return oip.CudaSharedMemoryUnregisterResponse()


def _no_regions(kind: str, request: Any, answer: Any) -> Any:
    if request.name:
        raise NotFound(f"unable to find {kind} shared memory region {request.name!r}: shared memory is not supported")
    return answer
