"""A model while it is being rescued: what the steps change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np

from convert.flatbuffer import rename_tensors
from convert.loaded import INPUT_NAME, LoadedModel
from convert.quantize import quantize
from convert.rescue.clip import clip_logits
from convert.rescue.finetune import Plan
from convert.rescue.network import Float32, Network
from convert.rescue.quantizer import to_int8
from convert.rescue.ranges import choose_ranges
from convert.rescue.simulate import Range
from convert.rescue.statistics import Activation, measure
from edge.errors import InputError

MAX_PICTURES = 800
"""Pictures that are held in memory at most; fine-tuning uses all of them."""

_CALIBRATION = 100
"""Pictures that ranges are taken from, evenly spread."""


class State:
    """The network and all that is known of it.

    Attributes:
        network: The float network.
        names: Of its outputs, in order.
        spec: What the file will say about itself; its decoder names the outputs.
        pictures: Inputs, each float32 (1, H, W, C).
        plan: How to fine-tune.
        method: How ranges are chosen, a key of `convert.rescue.ranges.METHODS`.
        clipped: Whether the ranges of logits are clipped.
        keep: Output tensors of the operators that stay float.
    """

    def __init__(self, model: LoadedModel, samples: Callable[[], Iterable[Float32]], plan: Plan) -> None:
        """Convert a model to float and collect the pictures.

        Raises:
            InputError: There are no pictures, or the graph is of a kind that cannot be rescued.
        """
        self.network = Network.parse(quantize(model, "float32"))
        self.network.own_constants()
        self.names, self.spec, self.plan = model.output_names, model.spec, plan
        self.pictures: Sequence[Float32] = tuple(islice(samples(), MAX_PICTURES))
        if not self.pictures:
            raise InputError("a rescue needs pictures to calibrate on; give a folder of typical ones")
        self.method, self.clipped = "minmax", False
        self.keep: frozenset[int] = frozenset()
        self._activations: dict[int, Activation] | None = None
        self._ranges: dict[int, Range] | None = None

    def copy(self) -> State:
        """Return a state whose changes do not reach this one; the pictures are shared."""
        other = copy.copy(self)
        other.network = self.network.copy()
        return other

    def spread(self, count: int) -> list[Float32]:
        """Return some of the pictures, evenly spread."""
        places = np.linspace(0, len(self.pictures) - 1, min(count, len(self.pictures))).round()
        return [self.pictures[int(place)] for place in places]

    @property
    def activations(self) -> dict[int, Activation]:
        """What the float network's tensors do on the calibration pictures."""
        if self._activations is None:
            self._activations = measure(self.network, self.spread(_CALIBRATION))
        return self._activations

    @property
    def ranges(self) -> dict[int, Range]:
        """The range of each tensor in int8; once asked for it stays until the network's shape or scale changes."""
        if self._ranges is None:
            self._ranges = choose_ranges(self.network, self.activations, self.method)
            if self.clipped:
                clip_logits(self.network, self._ranges, self.names, self.spec)
        return self._ranges

    @ranges.setter
    def ranges(self, ranges: dict[int, Range]) -> None:
        self._ranges = ranges

    def changed(self, activations: dict[int, Activation] | None = None) -> None:
        """Forget ranges and activations; `activations` are the new ones where they are known."""
        self._activations, self._ranges = activations, None

    def content(self, io: str) -> bytes:
        """Return the quantised model."""
        content = to_int8(self.network, self.ranges, io, self.keep)
        return rename_tensors(content, INPUT_NAME, self.names, any_batch=self.spec.task == "classify")
