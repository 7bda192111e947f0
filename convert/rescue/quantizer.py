"""Network and ranges to int8: TensorFlow's own quantiser, told which range each tensor has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from convert.rescue.network import Network
from convert.rescue.simulate import Range


def to_int8(network: Network, ranges: Mapping[int, Range], io: str = "int8", keep: Iterable[int] = ()) -> bytes:
    """Quantise a network.

    Args:
        network: The float network.
        ranges: Smallest and largest value of every activation.
        io: Type of input and outputs.
        keep: Output tensors of the operators that stay float.

    Returns:
        A `.tflite`; names of inputs and outputs are the network's.
    """
    kind = tf.dtypes.as_dtype(io)
    kept = {network.name(tensor) for tensor in keep}
    content: bytes = mlir_quantize(
        network.pack(dict(ranges)),
        fully_quantize=kind != tf.float32 and not kept,
        input_data_type=kind,
        output_data_type=kind,
        denylisted_nodes=kept or None,
    )
    return bytes(content)
