"""Minutes of work without a pause: how much slower a device gets when it is hot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge.device import DeviceReadings

WINDOW_S = 10.0
EDGE_S = 60.0
"""The first and the last minute are compared; of a run below two minutes the halves."""


class Recorder:
    """Counts results in windows of time, and looks at the device at the end of each.

    Attributes:
        windows: Each with its end in seconds since the start, results per second, and what the device showed.
    """

    def __init__(self, start_s: float, read: Callable[[], DeviceReadings], window_s: float = WINDOW_S) -> None:
        """Begin.

        Args:
            start_s: Now.
            read: Looks at the device.
            window_s: Length of a window.
        """
        self.windows: list[dict[str, Any]] = []
        self._start_s, self._read, self._window_s = start_s, read, window_s
        self._begin_s, self._count = start_s, 0

    def add(self, at_s: float) -> None:
        """Count a result that came at a time."""
        while at_s >= self._begin_s + self._window_s:
            self._close_window()
        self._count += 1

    def _close_window(self) -> None:
        device = self._read()
        self._begin_s += self._window_s
        hottest = max(device.temperatures_c.values(), default=None)
        clocks = device.cpu_hz.values()
        self.windows.append(
            {
                "end_s": self._begin_s - self._start_s,
                "fps": self._count / self._window_s,
                "temperature_c": hottest,
                "cpu_mhz": float(np.mean(list(clocks))) / 1e6 if clocks else None,
                "throttled": [name for name, active in device.throttled.items() if active],
            }
        )
        self._count = 0


def summary(windows: Sequence[dict[str, Any]], window_s: float = WINDOW_S) -> dict[str, Any]:
    """Return what a sustained run showed: its windows, and the end of it against its beginning.

    Args:
        windows: Of a `Recorder`, in order.
        window_s: Their length.
    """
    edge = max(1, min(round(EDGE_S / window_s), len(windows) // 2))
    first = float(np.mean([window["fps"] for window in windows[:edge]])) if windows else None
    last = float(np.mean([window["fps"] for window in windows[-edge:]])) if windows else None
    heat = [window["temperature_c"] for window in windows if window["temperature_c"] is not None]
    return {
        "window_s": window_s,
        "windows": list(windows),
        "edge_s": edge * window_s,
        "first_fps": first,
        "last_fps": last,
        "drop": None if not first or last is None or len(windows) < 2 else 1 - last / first,
        "hottest_c": max(heat, default=None),
        "throttled": sorted({name for window in windows for name in window["throttled"]}),
    }
