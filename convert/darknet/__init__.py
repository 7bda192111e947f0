"""Darknet: `.cfg` + `.weights` to a Keras graph with raw heads."""

from convert.darknet.load import load_darknet

__all__ = ["load_darknet"]
