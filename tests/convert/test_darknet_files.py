"""What the readers of `.cfg` and `.weights` refuse, and how they say it."""

from __future__ import annotations

import numpy as np
import pytest
from darknet_reference import Weights, run, write
from networks import HEAD, NETWORKS, START, conv, net
from test_darknet_graph import image_for

from convert.darknet.cfg import read_cfg
from convert.load import load
from edge.errors import InputError


def refusal(path, weights=None):
    with pytest.raises(InputError) as caught:
        load(path, weights)
    message = str(caught.value)
    assert "\n" not in message
    return message


def cfg_with(tmp_path, text):
    path = tmp_path / "net.cfg"
    path.write_text(text)
    return path


TAIL = "[convolutional]\nfilters=4\nactivation=linear\n"


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("", "no sections found"),
        ("width=3\n", "net.cfg:1: expected [section] or key=value, found 'width=3'"),
        ("[convolutional]\n", "net.cfg:1: [convolutional] (layer -1)"),
        ("[net]\nwidth=8\n", "net.cfg:1: [net]: no layers"),
        (f"[net]\n{TAIL}[gru]\noutput=3\n", "net.cfg:5: [gru] (layer 1): this section is not supported"),
        (f"[net]\n{TAIL}\n[net]\n", "net.cfg:6: [net] (layer 1): a second [net]"),
        (f"[net]\nhello\n{TAIL}", "net.cfg:2: expected [section] or key=value, found 'hello'"),
        (f"[net]\n{TAIL}frobnicate=2\n", "net.cfg:5: [convolutional] (layer 0): unknown key frobnicate=2"),
        (f"[net]\n{TAIL}xnor=1\n", "net.cfg:5: [convolutional] (layer 0): xnor=1 changes the result"),
        (f"[net]\n{TAIL}[upsample]\nscale=2\n", "net.cfg:6: [upsample] (layer 1): scale=2 changes the result"),
        (f"[net]\n{TAIL}[region]\ntree=9k.tree\n", "tree=9k.tree changes the result and is not supported"),
        (f"[net]\n{TAIL}filters=5\n", "filters is given twice, 4 (line 3) and 5"),
        (f"[net]\nwidth=many\nheight=8\n{TAIL}", "net.cfg:2: [net]: width=many, expected numbers"),
        (f"[net]\nwidth=8.5\nheight=8\n{TAIL}", "net.cfg:2: [net]: width=8.5, expected whole numbers"),
        (f"[net]\nwidth=0\nheight=8\n{TAIL}", "net.cfg:2: [net]: width=0, expected at least 1"),
        (f"[net]\nwidth=8\n{TAIL}", "net.cfg:1: [net]: height= is missing"),
        (f"[net]\nwidth=8\nheight=8\nchannels=4\n{TAIL}", "net.cfg:4: [net]: channels=4, expected 3"),
    ],
)
def test_cfg_errors_name_file_line_and_section(text, telling, tmp_path):
    (tmp_path / "net.weights").write_bytes(bytes(40))
    if text.startswith("[convolutional]"):
        telling = "net.cfg:1: [convolutional]: expected [net] as the first section"
    assert telling in refusal(cfg_with(tmp_path, text))


def test_binary_file_is_no_cfg(tmp_path):
    path = tmp_path / "net.cfg"
    path.write_bytes(b"[net]\0\1\2")
    assert "expected a Darknet .cfg text file" in refusal(path)


def test_missing_files(tmp_path):
    assert "cannot read" in refusal(tmp_path / "none.cfg")
    cfg, weights = write(tmp_path, NETWORKS["dropout"], np.zeros(1, np.float32))
    weights.unlink()
    assert f"cannot read {weights}" in refusal(cfg)
    assert "pass the .cfg first" in refusal(weights)


def test_comments_spaces_and_training_keys_mean_nothing(tmp_path):
    path = cfg_with(
        tmp_path,
        "# made by hand\r\n [ net ] \n width = 64 ; wide\n height=32\nbatch=1\nbatch=64\nmomentum=0.9\n"
        "[conv]\n filters = 1,2 # a list\n activation=linear\nlearning_rate=0\n",
    )
    network, layers = read_cfg(path)
    assert network.integer("width", 0) == 64
    assert [layer.kind for layer in layers] == ["convolutional"]
    assert layers[0].line == 8
    assert layers[0].integers("filters", ()) == (1, 2)


@pytest.fixture
def good(tmp_path):
    """A network, its files and its parameters; layers at lines 6, 13, 22."""
    network = [net(), START, conv(6, 3, batch_normalize=1), *HEAD]
    weights = Weights()
    run(network, image_for(network), weights)
    floats = weights.array()
    return *write(tmp_path, network, floats), network, floats


@pytest.mark.parametrize(("kept", "layer", "line"), [(0, 0, 6), (100, 0, 6), (230, 1, 13), (-1, 2, 21)])
def test_short_weights_name_the_layer(kept, layer, line, good, tmp_path):
    cfg, weights, network, floats = good
    part = floats[:kept]
    write(tmp_path, network, part)
    message = refusal(cfg)
    assert f"net.cfg:{line}: [convolutional] (layer {layer}): the weights run out here" in message
    assert f"expected {len(floats):,} numbers, found {len(part):,}" in message


def test_a_normalisation_that_makes_weights_infinite(good, tmp_path):
    cfg, _, network, floats = good
    huge = floats.copy()
    at = 8 + 8 * 3 * 9 + 6  # behind the first convolution, and the biases of the normalised one: its scales
    huge[at : at + 6] = 3e38
    huge[at + 12 : at + 18] = 1e-30  # and its variances
    write(tmp_path, network, huge)
    assert "net.cfg:13: [convolutional] (layer 1)" in (message := refusal(cfg)) and "makes weights infinite" in message


def test_long_weights(good, tmp_path):
    cfg, _, network, floats = good
    write(tmp_path, network, np.append(floats, np.zeros(7, np.float32)))
    message = refusal(cfg)
    assert f"expected {len(floats):,} numbers, found {len(floats) + 7:,}: 7 left over" in message


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        (lambda data: data[:-2], "the file is cut or broken"),
        (lambda data: data[:10], "10 bytes, expected a Darknet .weights"),
        (lambda data: b"", "0 bytes, expected a Darknet .weights"),
        (lambda data: b"PK\3\4" + data[4:], "this is no Darknet .weights"),
        (lambda data: data[:40] + b"\0\0\xc0\x7f" + data[44:], "numbers here that are not finite"),
        (lambda data: data[:-4] + b"\0\0\x80\xff", "numbers here that are not finite"),
    ],
)
def test_broken_weights(change, telling, good):
    cfg, weights, _, _ = good
    weights.write_bytes(change(weights.read_bytes()))
    assert telling in refusal(cfg)


def test_negative_variance(good, tmp_path):
    cfg, _, network, floats = good
    # Layer 0 has 8 biases and 216 weights; layer 1 begins with bias, scale, mean and variance of 6 filters.
    floats[224 + 3 * 6] = -1
    write(tmp_path, network, floats)
    message = refusal(cfg)
    assert "net.cfg:13: [convolutional] (layer 1)" in message
    assert "negative variance" in message


@pytest.mark.parametrize(("names", "telling"), [("cat\n", "1 labels, but the model has 2 classes"), ("", "no label")])
def test_labels_must_fit(names, telling, good, tmp_path):
    from convert.describe import Description

    file = tmp_path / "net.names"
    file.write_text(names)
    with pytest.raises(InputError, match=telling):
        load(good[0], given=Description(labels=file))
    with pytest.raises(InputError, match="cannot be read"):
        load(good[0], given=Description(labels=tmp_path / "none.names"))


@pytest.mark.parametrize("flag", ["decoder", "input_range", "color", "spec"])
def test_flags_for_keras_are_refused(flag, good, tmp_path):
    from convert.describe import Description

    with pytest.raises(InputError, match="is for Keras models"):
        load(good[0], given=Description(**{flag: tmp_path}))
