"""Keeps recordings in bounds: one thread for all outputs of the process, off the path of the frames."""

from __future__ import annotations

import heapq
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress

from edge.sinks.recording.folder import Folder, Recording

log = logging.getLogger(__name__)

_SWEEP_S = 60.0
_URGENT_S = 5.0
"""Sweeps that a full disk asks for are so many seconds apart at least."""


class Keeper:
    """Looks through the folders of all outputs once a minute, and removes what is too old, too much or in the way.

    Space on a disk is made by age across all cameras that record to it: a camera that happened to be looked at first
    would pay for all others.
    """

    def __init__(self, sweep_s: float = _SWEEP_S) -> None:
        """Prepare; the thread starts with the first folder, and ends with the last.

        Args:
            sweep_s: Seconds between two looks.
        """
        self._sweep_s = sweep_s
        # A sink that was dropped and not closed must not be kept in bounds for ever.
        self._folders: weakref.WeakSet[Folder] = weakref.WeakSet()
        self._told: dict[str, str] = {}
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, folder: Folder) -> None:
        """Keep a folder in bounds from now on; harmless when repeated."""
        with self._lock:
            if folder in self._folders:
                return
            self._folders.add(folder)
            if self._thread is None:
                self._wake.set()
                self._thread = threading.Thread(target=self._run, name="edge-retention", daemon=True)
                self._thread.start()

    def discard(self, folder: Folder) -> None:
        """Leave a folder alone from now on."""
        with self._lock:
            self._folders.discard(folder)
            if not self._folders:
                self._wake.set()

    def hurry(self) -> None:
        """Look soon: a disk is full."""
        self._wake.set()

    def _run(self) -> None:
        with suppress(OSError):  # a service may not be allowed to
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        pause = threading.Event()
        while True:
            self._wake.wait(self._sweep_s)
            with self._lock:
                if not self._folders:
                    self._thread = None
                    return
            self._wake.clear()
            self.sweep()
            pause.wait(min(_URGENT_S, self._sweep_s))

    def sweep(self) -> None:
        """Look through all folders once. What cannot be read or removed is logged, once until it changes."""
        with self._sweeping:
            with self._lock:
                folders = sorted(self._folders, key=lambda folder: folder.path)
            disks: dict[int, list[Folder]] = {}
            free_bytes: dict[int, float] = {}
            for folder in folders:
                try:
                    for recording in folder.trim():
                        log.debug("%s/%s/%s: removed", folder.path, recording.day, recording.stem)
                    device, free_bytes[device] = folder.device()
                    disks.setdefault(device, []).append(folder)
                except FileNotFoundError:
                    continue  # nothing was recorded yet
                except OSError as error:
                    self._tell(str(folder.path), f"cannot be tidied up ({error.strerror or error})")
                else:
                    self._told.pop(str(folder.path), None)
            for device, members in disks.items():
                self._make_room(members, free_bytes[device])

    def _make_room(self, folders: list[Folder], free_bytes: float) -> None:
        """Remove the oldest recordings of a disk until it has as much free as each folder wants."""
        wanting = [folder for folder in folders if folder.min_free_bytes > free_bytes]
        if not wanting:
            return
        least = free_bytes
        merged = heapq.merge(*(_by_age(folder) for folder in wanting), key=lambda item: item[0])
        try:
            for _, folder, recording in merged:
                # What was removed is counted, not measured: some file systems free it later.
                if free_bytes >= max(member.min_free_bytes for member in wanting):
                    break
                if folder.min_free_bytes > free_bytes and folder.remove(recording):
                    log.debug("%s/%s/%s: removed to make room", folder.path, recording.day, recording.stem)
                    free_bytes += recording.size_bytes
        except OSError as error:
            self._tell(str(wanting[0].path), f"cannot be tidied up ({error.strerror or error})")
            return
        place = str(wanting[0].path.parent)
        if free_bytes < min(folder.min_free_bytes for folder in wanting):
            self._tell(
                place, f"the disk has {least / 1e9:.1f} GB free, and there is no recording left to remove", place
            )
        else:
            self._told.pop(place, None)

    def _tell(self, place: str, message: str, key: str = "") -> None:
        if self._told.get(place) != (key or message):
            self._told[place] = key or message
            log.warning("%s: %s", place, message)


def _by_age(folder: Folder) -> Iterator[tuple[tuple[str, str], Folder, Recording]]:
    for recording in folder.recordings():
        yield (recording.day, recording.stem[:8]), folder, recording


KEEPER = Keeper()
"""Of this process."""
