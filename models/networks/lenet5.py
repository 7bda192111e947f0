"""LeNet-5.

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc.
IEEE 86 (11), 1998, section II.B, in the form that is taught: C3 sees all maps of S2 (the paper's table I leaves some
out to save work), S2 and S4 are plain averages without a coefficient, and the output is a softmax.

    image  32 x 32 x 1
    C1     28 x 28 x 6      5 x 5       156 parameters
    S2     14 x 14 x 6
    C3     10 x 10 x 16     5 x 5     2,416
    S4      5 x  5 x 16
    C5      1 x  1 x 120    5 x 5    48,120
    F6                84             10,164
    scores            10                850

MNIST's digits are 28 x 28: the paper centres them in 32 x 32, here they are resized to it, in training as on the
device, so that the corners of a digit still reach the middle of a field of C5.
"""

from __future__ import annotations

import keras

from models.networks.blocks import classifier


def lenet5(input_shape: tuple[int, int, int] = (32, 32, 1), num_classes: int = 10, weights: None = None) -> keras.Model:
    """Build LeNet-5, 61,706 parameters.

    Args:
        input_shape: Height, width and channels; at least 32 x 32, where C5 sees all of it.
        num_classes: Number of classes.
        weights: There are no pretrained ones.
    """
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(6, 5, activation="tanh", name="c1")(image)
    x = keras.layers.AveragePooling2D(2, name="s2")(x)
    x = keras.layers.Conv2D(16, 5, activation="tanh", name="c3")(x)
    x = keras.layers.AveragePooling2D(2, name="s4")(x)
    x = keras.layers.Conv2D(120, 5, activation="tanh", name="c5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(84, activation="tanh", name="f6")(x)
    return classifier(image, x, num_classes, "lenet-5")
