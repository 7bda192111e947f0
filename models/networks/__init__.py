"""The networks that the field is taught with, in plain Keras, one family a file.

A classifier has one input, ``image`` (B, H, W, C) float32, and ends in one `Dense` layer called ``scores`` that gives
probabilities (B, classes). Images are channels last; what their pixels are scaled to is the training's affair, except
for pretrained weights (see `models.Preprocessing`).
"""
