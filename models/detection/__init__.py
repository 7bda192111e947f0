"""Detectors: their network, data, loss and training."""
