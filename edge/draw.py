"""Boxes, labels and class lists drawn on pixels."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from edge.detections import Detections
from edge.frame import Image
from edge.result import Classification

Color = tuple[int, int, int]
"""Blue, green, red, 0..255."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT = 21.0
"""Height of a capital letter of `_FONT` at scale 1, in pixels."""

_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"ð": "d", "þ": "th", "ı": "i", "–": "-", "—": "-", "’": "'", "‘": "'"}
)
"""Letters that Unicode does not decompose into ASCII."""

_BACKGROUND: Color = (32, 32, 32)
_CACHE_LIMIT = 2048


class _Style(NamedTuple):
    """Sizes that suit one frame size, in pixels but for `scale`, a factor of the font."""

    line: int
    text_line: int
    scale: float
    pad: int


class _Text(NamedTuple):
    """A measured text: pixels of its width, of what is above the base line, and of what is below."""

    text: str
    width: int
    above: int
    below: int


def class_color(class_id: int) -> Color:
    """Return a class's colour, always the same: neighbours differ in hue by the golden angle, and in tone."""
    tone = class_id // 8 % 3
    saturation, value = ((0.85, 1.0), (0.55, 1.0), (0.9, 0.7))[tone]
    red, green, blue = colorsys.hsv_to_rgb((0.33 + class_id * 0.61803399) % 1.0, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def text_color(background: Color) -> Color:
    """Return black or white, whichever stands out; brightness as ITU-R BT.601 weighs it."""
    blue, green, red = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def ascii_text(text: str, instead: str) -> str:
    """Return a text in the letters that OpenCV's font has; `instead` where too little of it is left."""
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    kept = [c for c in plain if not unicodedata.combining(c)]
    known = [c if " " <= c <= "~" else "?" for c in kept]
    return "".join(known).strip() if known.count("?") * 2 <= len(known) and known else instead


def ascii_label(label: str, class_id: int) -> str:
    """Return a label as `ascii_text` does; `class N` where too little of it is left."""
    return ascii_text(label, f"class {class_id}")


class Painter:
    """Draws results in place. Lines and letters grow with the frame, labels stay inside it.

    It remembers measured texts: use one per model, in one thread.
    """

    def __init__(self, labels: Sequence[str] = (), color: Callable[[int], Color] = class_color) -> None:
        """Prepare names and colours.

        Args:
            labels: Class names by class index; a class beyond them is called by its number.
            color: Returns the colour of a class index.
        """
        self._color = color
        self._labels = [ascii_label(label, i) for i, label in enumerate(labels)]
        self._measured: dict[tuple[str, float, int], _Text] = {}

    def draw(self, image: Image, detections: Detections) -> None:
        """Draw boxes and labels on `image`, uint8 (H, W, 3) BGR, in place; the best scores on top."""
        height, width = image.shape[:2]
        style = _style(width, height)
        boxes = _whole_pixels(detections.xyxy, width, height)
        order = range(len(detections) - 1, -1, -1)
        colors = [self._color(int(c)) for c in detections.class_id]
        for i in order:
            x1, y1, x2, y2 = boxes[i]
            cv2.rectangle(image, (x1, y1), (x2, y2), colors[i], style.line)
        # After all boxes, so that no line crosses a label.
        for i in order:
            text = self.name(int(detections.class_id[i]))
            if not np.isnan(detections.score[i]):  # what a person has labelled has no score
                text += f" {detections.score[i]:.2f}"
            if detections.track_id is not None:
                text = f"#{detections.track_id[i]} {text}"
            self._label(image, text, boxes[i], colors[i], style)

    def draw_classes(self, image: Image, classification: Classification) -> None:
        """Draw the best classes as lines in the upper left corner of `image`, uint8 (H, W, 3) BGR, in place.

        The box of a localiser has the colour of the best class.
        """
        height, width = image.shape[:2]
        style = _style(width, height)
        if classification.box_xyxy is not None and classification.class_id:
            (box,) = _whole_pixels(np.array([classification.box_xyxy], np.float32), width, height)
            cv2.rectangle(image, box[:2], box[2:], self._color(classification.class_id[0]), style.line)
        y = 0
        for class_id, score in zip(classification.class_id, classification.score, strict=True):
            drawn = self._label_at(image, f"{score:.2f} {self.name(class_id)}", 0, y, _BACKGROUND, style)
            y += drawn
            if y + drawn > height:
                break

    def draw_line(self, image: Image, text: str, color: Color) -> None:
        """Write an ASCII text on `image`, a strip of uint8 (H, W, 3) BGR, in place: at its left, halfway up.

        Of a text that is too long the end is shown: names of files differ there.
        """
        height, width = image.shape[:2]
        style = _style(width, height)
        for cut in range(len(text)):
            shown = f"...{text[cut:]}" if cut else text
            (w, h), _ = cv2.getTextSize(shown, _FONT, style.scale, style.text_line)
            if w + 2 * style.pad <= width:
                origin = (style.pad, (height + h) // 2)
                cv2.putText(image, shown, origin, _FONT, style.scale, color, style.text_line, cv2.LINE_AA)
                return

    def name(self, class_id: int) -> str:
        """Return the name that is drawn for a class."""
        return self._labels[class_id] if 0 <= class_id < len(self._labels) else str(class_id)

    def _label(self, image: Image, text: str, box: list[int], color: Color, style: _Style) -> None:
        """Put a label above its box, or inside where there is no room above, shifted to stay in the frame."""
        measured = self._fit(text, style, image.shape[1])
        full = measured.above + measured.below + 2 * style.pad
        # The outer edge of the line is half its width outside the box.
        left, top = box[0] - style.line // 2, box[1] - style.line // 2 - full
        if top < 0:
            top = min(max(box[1], 0), image.shape[0] - full)
        self._label_at(image, text, left, top, color, style)

    def _label_at(self, image: Image, text: str, left: int, top: int, color: Color, style: _Style) -> int:
        """Draw a text on a plate whose corner is as near to (left, top) as the frame allows; return its height."""
        height, width = image.shape[:2]
        measured = self._fit(text, style, width)
        full_w, full_h = measured.width + 2 * style.pad, measured.above + measured.below + 2 * style.pad
        left, top = max(0, min(left, width - full_w)), max(0, min(top, height - full_h))
        cv2.rectangle(image, (left, top), (left + full_w - 1, top + full_h - 1), color, cv2.FILLED)
        origin = (left + style.pad, top + style.pad + measured.above)
        cv2.putText(image, measured.text, origin, _FONT, style.scale, text_color(color), style.text_line, cv2.LINE_AA)
        return full_h

    def _fit(self, text: str, style: _Style, width: int) -> _Text:
        """Measure a text, shortened until it fits a frame of this width."""
        key = (text, style.scale, width)
        if (known := self._measured.get(key)) is not None:
            return known
        shown = text
        while True:
            (w, h), base = cv2.getTextSize(shown, _FONT, style.scale, style.text_line)
            if w + 2 * style.pad <= width or len(shown) <= 1:
                break
            # The score at the end matters more than the end of a long name.
            name, _, score = shown.rpartition(" ")
            shown = f"{name[:-1]} {score}" if len(name) > 1 else shown[:-1]
        if len(self._measured) >= _CACHE_LIMIT:
            self._measured.clear()
        measured = self._measured[key] = _Text(shown, w, h, base)
        return measured


def _whole_pixels(xyxy: npt.NDArray[np.float32], width: int, height: int) -> list[list[int]]:
    """Return boxes, float32 (n, 4), as pixels of a picture of this size."""
    boxes: list[list[int]] = xyxy.round().astype(int).clip((0, 0, 0, 0), (width - 1, height - 1) * 2).tolist()
    return boxes


def _style(width: int, height: int) -> _Style:
    """Return sizes for a frame: measured by its mean side, with a floor that keeps letters readable."""
    side = (width + height) / 2
    cap = max(7.5, side * 0.017)
    return _Style(
        line=max(1, round(side * 0.0032)),
        text_line=max(1, round(cap / 9)),
        scale=round(cap / _CAP_HEIGHT, 3),
        pad=max(1, round(cap * 0.25)),
    )
