"""edge: find out on the device what a camera sees."""

__version__ = "0.1.0"
