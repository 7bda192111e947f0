"""OpenCV's answer: `python opencv_heads.py CFG WEIGHTS BLOB.npy OUT.npz`, run where OpenCV 4.x with its DNN is.

OpenCV 5 has no Darknet reader, so this runs in an environment of its own.
"""

import sys

import cv2
import numpy as np


def main(cfg: str, weights: str, blob: str, out: str) -> None:
    """Save the raw input of every detection head, (1, h, w, C), or else the last output, in the order of the cfg."""
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    net.setInput(np.load(blob))
    names = net.getLayerNames()
    # The reader puts a permute in front of each head.
    wanted = [name for name in names if name.startswith("permute")] or [names[-1]]
    np.savez(out, **{f"head_{index}": head for index, head in enumerate(net.forward(wanted))})


if __name__ == "__main__":
    main(*sys.argv[1:])
