"""From frames to results: lanes of frames, pools of interpreters, and the threads between them."""

from edge.engine.engine import Engine
from edge.engine.lane import DEPTH, Job, Lane, Outlet
from edge.engine.pool import Pool

__all__ = ["DEPTH", "Engine", "Job", "Lane", "Outlet", "Pool"]
