"""One model in every mode, as files that the runtime can run."""

from __future__ import annotations

from pathlib import Path

from convert.candidate import Candidate
from convert.loaded import LoadedModel
from convert.quantize import MODES, Samples, quantize
from edge.spec import ConversionRecord, ModelSpec
from edge.spec.seal import sealed


class Variants:
    """Makes files of one model in a folder, each once.

    Attributes:
        model: The model.
        samples: Calibration inputs; None where there are none.
    """

    def __init__(self, model: LoadedModel, samples: Samples | None, folder: Path) -> None:
        """Prepare.

        Args:
            model: What to convert.
            samples: Calibration inputs.
            folder: Where the files go.
        """
        self.model = model
        self.samples = samples
        self._folder = folder
        self._content: dict[tuple[str, str | None], bytes] = {}
        self._file: dict[bytes, Path] = {}

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that can be made: without samples those that need none."""
        return tuple(mode for mode, row in MODES.items() if self.samples is not None or not row.calibrated)

    def content(self, mode: str, io: str | None = None) -> bytes:
        """Return the model in a mode, without description.

        Raises:
            InputError: See `quantize`.
        """
        if (mode, io) not in self._content:
            self._content[mode, io] = quantize(self.model, mode, self.samples, io)
        return self._content[mode, io]

    def candidate(self, mode: str, io: str | None = None, record: ConversionRecord | None = None) -> Candidate:
        """Return the model in a mode, with what is known of it.

        Raises:
            InputError: See `quantize`.
        """
        source = self.model.spec.model_copy(update={"quantization": mode})
        return Candidate(self.content(mode, io), source, record or ConversionRecord())

    def file(self, content: bytes, spec: ModelSpec) -> Path:
        """Return a file of `content` that can be loaded."""
        if content not in self._file:
            path = self._folder / f"{len(self._file)}_{spec.quantization}.tflite"
            path.write_bytes(sealed(content, spec, {}))
            self._file[content] = path
        return self._file[content]
