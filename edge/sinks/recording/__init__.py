"""Outputs of a service that runs for months: they rotate, they are kept in bounds, and they survive what disks do.

Each is a `RecoverableSink`: it goes on after an outage of its disk.
"""

from edge.sinks.recording.clips import ClipSink
from edge.sinks.recording.folder import Folder
from edge.sinks.recording.rows import RowsSink
from edge.sinks.recording.segments import SegmentSink
from edge.sinks.recording.snapshots import SnapshotSink
from edge.sinks.recording.view import Events, View

__all__ = ["ClipSink", "Events", "Folder", "RowsSink", "SegmentSink", "SnapshotSink", "View"]
