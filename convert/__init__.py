"""From trained models to `.tflite`: load (Darknet, Keras, SavedModel), quantise, describe, write.

`convert.load.load` reads a source, `convert.api.convert_model` writes the file. Importing this package alone does not
load TensorFlow.
"""
