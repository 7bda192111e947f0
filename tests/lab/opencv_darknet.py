"""OpenCV's boxes: `python opencv_darknet.py CFG WEIGHTS SIDE VIDEO OUT.json`, run where OpenCV 4.x with its DNN is.

OpenCV reads the network, decodes its heads and suppresses; only the loop around it is ours. Pictures are stretched, as
`cv2.dnn` and the AlexeyAB fork do.
"""

import json
import sys

import cv2
import numpy as np


def main(cfg: str, weights: str, side: str, video: str, out: str) -> None:
    """Write [[x1, y1, x2, y2, score, class], ...] of every frame."""
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    names, size = net.getUnconnectedOutLayersNames(), (int(side), int(side))
    capture, frames = cv2.VideoCapture(video), []
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        net.setInput(cv2.dnn.blobFromImage(frame, 1 / 255, size, swapRB=True))
        rows = np.concatenate(net.forward(names))
        best = rows[:, 5:].argmax(axis=1)
        score = rows[np.arange(len(rows)), 5 + best]
        keep = score > 0.25
        rows, best, score = rows[keep], best[keep], score[keep]
        corner = rows[:, :2] - rows[:, 2:4] / 2
        boxes = np.hstack([corner, rows[:, 2:4]]) * np.tile(frame.shape[1::-1], 2)
        chosen = cv2.dnn.NMSBoxesBatched(boxes.tolist(), score.tolist(), best.tolist(), 0.25, 0.45) if len(rows) else []
        limit = np.tile(frame.shape[1::-1], 2)
        frames.append(
            [
                [*np.clip([*boxes[i, :2], *(boxes[i, :2] + boxes[i, 2:])], 0, limit), float(score[i]), int(best[i])]
                for i in chosen
            ]
        )
    with open(out, "w") as file:
        json.dump(frames, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
