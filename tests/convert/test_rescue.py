"""The steps of a rescue, each on a small network where it is exact or provably helps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Runner

from convert.loaded import LoadedModel, freeze
from convert.quantize import quantize
from convert.rescue import STEPS, Plan, Verdict, rescue, rescue_auto
from convert.rescue.bias import correct_biases
from convert.rescue.clip import LIMIT
from convert.rescue.equalize import equalize
from convert.rescue.heads import split_heads
from convert.rescue.mixed import cut, damaging_segments, keep_float
from convert.rescue.network import Network
from convert.rescue.ranges import choose_ranges, free_scales, same_scale
from convert.rescue.simulate import fake_quantized, forward
from convert.rescue.state import State
from convert.rescue.statistics import measure
from edge.decoders import DECODERS
from edge.errors import InputError
from edge.spec import DecoderSpec, InputSpec, ModelSpec
from edge.tensor import TensorInfo

L = keras.layers
ANCHORS = [[[4.0, 5.0], [9.0, 8.0]]]


def uneven(layer, random):
    """Give a layer weights whose output channels differ a hundredfold, which one scale for all of them cannot hold."""
    kernel = random.normal(0, 0.5, layer.kernel.shape).astype(np.float32)
    channels = kernel.shape[-2] if isinstance(layer, L.DepthwiseConv2D) else kernel.shape[-1]
    factors = np.geomspace(0.05, 5, channels).astype(np.float32)
    random.shuffle(factors)
    kernel *= factors[:, None] if isinstance(layer, L.DepthwiseConv2D) else factors
    layer.set_weights([kernel, (random.normal(0, 0.3, channels) * factors).astype(np.float32)])


def small_network(seed=0):
    """A residual network with a stem, leaky ReLU, depthwise, pooling, concatenation, ReLU6 and an anchor head."""
    image = keras.Input((32, 32, 3), batch_size=1)
    x = L.LeakyReLU(negative_slope=0.1)(L.Conv2D(8, 3, 2, "same")(image))
    y = L.LeakyReLU(negative_slope=0.1)(L.DepthwiseConv2D(3, 1, "same")(x))
    y = L.Conv2D(8, 1)(y)
    x = L.Add()([L.Conv2D(8, 1)(x), y])
    x = L.Concatenate()([L.MaxPooling2D(3, 1, "same")(x), x])
    x = L.ReLU()(L.Conv2D(12, 3, 2)(L.ZeroPadding2D(1)(x)))
    x = L.ReLU(6.0)(L.Conv2D(12, 1)(x))
    model = keras.Model(image, L.Conv2D(16, 1)(x))
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.get_weights():
            uneven(layer, random)
    head = model.layers[-1]
    # As in real heads: sizes live in tenths, logits in tens.
    kernel, bias = head.get_weights()
    scale = np.tile(np.float32([0.3, 0.3, 0.1, 0.1, 8, 12, 12, 12]), 2)
    kernel /= np.abs(kernel).mean(axis=(0, 1, 2)) * 20
    head.set_weights([kernel * scale, bias * 0])
    return model


def loaded(model, name="yolo_anchors"):
    frozen = freeze(lambda x: tf.nest.flatten(model(x, training=False)), tuple(model.inputs[0].shape))
    params = {"anchors": ANCHORS, "strides": [4], "classes": 3}
    decoder = DecoderSpec(name=name, outputs={"head_0": "head_0"}, params=params)
    task = "detect"
    if name == "classifier":
        decoder, task = DecoderSpec(name=name, outputs={"scores": "head_0"}), "classify"
    spec = ModelSpec(name="small", task=task, input=InputSpec(size_wh=(32, 32)), decoder=decoder)
    return LoadedModel(frozen, ("head_0",), spec)


def pictures(count=24, seed=1):
    random = np.random.default_rng(seed)
    coarse = random.random((count, 4, 4, 3)).astype(np.float32)
    smooth = tf.image.resize(coarse, (32, 32)).numpy()
    return [
        np.clip(picture + random.normal(0, 0.05, picture.shape), 0, 1)[None].astype(np.float32) for picture in smooth
    ]


def samples():
    return iter(pictures())


@pytest.fixture(scope="module")
def model():
    return loaded(small_network())


@pytest.fixture(scope="module")
def start(model):
    """The state before any step, with its activations measured once."""
    state = State(model, samples, Plan(steps=30, batch=4, rate=0.1, decay=0.8))
    assert state.activations
    return state


@pytest.fixture
def state(start):
    return start.copy()


def outputs_of(network, images):
    values = forward(network, images)
    return [values[tensor].numpy() for tensor in network.outputs]


def noise(state):
    """Mean squared error of each int8 output, simulated, in units of the mean square of the float one."""
    images = np.concatenate(pictures(8, seed=7))
    exact, found = forward(state.network, images), forward(state.network, images, state.ranges, keep=state.keep)
    return {
        name: float(tf.reduce_mean(tf.square(exact[t] - found[t])) / tf.reduce_mean(tf.square(exact[t])))
        for name, t in zip(state.names, state.network.outputs, strict=True)
    }


def test_simulation_is_the_float_model_and_near_the_int8_one(model, state):
    content = quantize(model, "float32")
    images = pictures(4, seed=3)
    exact = outputs_of(Network.parse(content), np.concatenate(images))[0]
    runtime = np.concatenate([Runner(content)(image)["head_0"] for image in images])
    assert np.allclose(exact, runtime, atol=1e-3)
    simulated = forward(state.network, np.concatenate(images), state.ranges)[state.network.outputs[0]].numpy()
    found = np.concatenate([Runner(state.content("int8"))(image)["head_0"] for image in images])
    low, high = state.ranges[state.network.outputs[0]]
    # Kernels that differ by a rounding in one layer differ by a few in the last.
    assert np.abs(simulated - found).mean() < (high - low) / 255
    assert np.square(simulated - found).mean() < 0.5 * np.square(exact - found).mean()


def test_every_tensor_of_int8_is_integer(state):
    runner = Runner(state.content("int8"))
    assert {np.dtype(d["dtype"]) for d in (runner.input, *runner.outputs.values())} == {np.dtype(np.int8)}
    kinds = {detail["dtype"] for detail in runner._interpreter.get_tensor_details()}
    assert np.float32 not in kinds


def test_equalisation_keeps_the_float_function_and_evens_the_channels(state):
    images = np.concatenate(pictures(4, seed=3))
    before = outputs_of(state.network, images)[0]
    spread = channel_spread(state.activations, state.network)
    noisy = noise(state)["head_0"]
    after = equalize(state.network, state.activations)
    state.changed(after)
    assert np.allclose(outputs_of(state.network, images)[0], before, atol=1e-4 * np.abs(before).max())
    assert channel_spread(after, state.network) < 0.5 * spread
    measured = measure(state.network, state.pictures)
    for tensor, activation in measured.items():
        assert np.allclose(after[tensor].high, activation.high, rtol=1e-3, atol=1e-3)
    assert noise(state)["head_0"] < 0.7 * noisy


def channel_spread(activations, network):
    """How much the widest channel of a tensor exceeds the median one, in the geometric mean over tensors."""
    widths = [np.maximum(a.high, -a.low) for t, a in activations.items() if t not in (network.input, *network.outputs)]
    return float(np.exp(np.mean([np.log(w.max() / max(np.median(w), 1e-3)) for w in widths if w.max() > 0])))


def test_channels_behind_a_limit_keep_their_scale(state):
    """ReLU6 is not homogeneous: what it gives must stay in 0..6."""
    limited = next(op.outputs[0] for op in state.network.ops if "RELU6" in (op.activation, op.kind))
    after = equalize(state.network, state.activations)
    assert np.array_equal(after[limited].high, state.activations[limited].high)


def test_ranges_by_error_beat_the_extremes_where_there_are_outliers(state):
    tensor = state.network.ops[0].outputs[0]
    activation = state.activations[tensor]
    outlier = activation.high * 20
    changed = state.activations | {
        tensor: type(activation)(activation.low, outlier, activation.mean, activation.sample)
    }
    wide = choose_ranges(state.network, changed, "minmax")[tensor]
    for method in ("mse", "percentile"):
        narrow = choose_ranges(state.network, changed, method)[tensor]
        assert narrow[1] < wide[1] / 5
    assert choose_ranges(state.network, changed, "mse")[state.network.input] == (
        pytest.approx(0.0, abs=0.02),
        pytest.approx(1.0, abs=0.02),
    )


def test_what_moves_values_shares_their_scale(state):
    groups = [set(members) for members in same_scale(state.network)]
    concatenated = next(op for op in state.network.ops if op.kind == "CONCATENATION")
    group = next(members for members in groups if concatenated.outputs[0] in members)
    assert set(concatenated.inputs) <= group
    assert len({state.ranges[tensor] for tensor in group}) == 1


def test_split_heads_give_the_same_boxes(model, state):
    images = pictures(1, seed=3)
    whole = {"head_0": outputs_of(state.network, images[0])[0]}
    state.names, spec = split_heads(state.network, state.names, state.spec)
    assert state.names == ("head_0_xy", "head_0_wh", "head_0_obj", "head_0_cls")
    parts = dict(zip(state.names, outputs_of(state.network, images[0]), strict=True))
    assert [part.shape[-1] for part in parts.values()] == [4, 4, 2, 6]

    def boxes(spec, outputs):
        infos = {name: TensorInfo(name, value.shape, value.dtype) for name, value in outputs.items()}
        return DECODERS["yolo_anchors"].build(spec, (32, 32), infos)(outputs, 0.05)

    for one, other in zip(boxes(model.spec, whole), boxes(spec, parts), strict=True):
        assert len(one) and np.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_split_heads_have_scales_of_their_own(model):
    one, four = (rescue(model, samples, steps) for steps in ((), ("head-scales",)))
    image = pictures(1, seed=3)[0]
    exact = Runner(quantize(model, "float32"))(image)["head_0"].reshape(8, 8, 2, 8)
    whole = Runner(one.content)(image)["head_0"].reshape(8, 8, 2, 8)
    size = Runner(four.content)(image)["head_0_wh"].reshape(8, 8, 2, 2)
    assert np.abs(size - exact[..., 2:4]).mean() < 0.5 * np.abs(whole - exact)[..., 2:4].mean()
    assert four.spec.decoder.outputs == {name: name for name in ("head_0_xy", "head_0_wh", "head_0_obj", "head_0_cls")}
    assert one.spec == model.spec


def test_logits_are_clipped_only_where_a_tensor_holds_nothing_else(state):
    STEPS["logit-clipping"].apply(state)
    assert state.ranges[state.network.outputs[0]][0] < -LIMIT
    STEPS["head-scales"].apply(state)
    ranges = {name: state.ranges[t] for name, t in zip(state.names, state.network.outputs, strict=True)}
    assert ranges["head_0_cls"] == (-LIMIT, LIMIT)


def test_bias_correction_takes_the_mean_error_off(state):
    images = np.concatenate(state.pictures)

    def shift():
        values = forward(state.network, images, state.ranges)[state.network.outputs[0]]
        return np.abs(np.mean(values.numpy() - exact, axis=(0, 1, 2))).mean()

    exact = outputs_of(state.network, images)[0]
    before = shift()
    assert correct_biases(state.network, state.ranges, images) > 0
    assert shift() < 0.5 * before


def test_fine_tuning_reduces_the_error(state):
    state.method = "mse"
    state.changed(state.activations)
    noisy = noise(state)["head_0"]
    before, after = (float(word) for word in STEPS["fine-tuning"].apply(state).split()[5:8:2])
    assert after < 0.7 * before
    assert noise(state)["head_0"] < 0.8 * noisy


@pytest.mark.parametrize(("low", "high"), [(-20.0, 20.0), (-0.5, 0.5), (-0.2, 20.0)])
def test_the_gradient_of_a_range_leads_to_a_better_one(low, high):
    values = tf.constant(np.random.default_rng(0).normal(0, 1, 5000).astype(np.float32))

    def error(ends):
        return tf.reduce_mean(tf.square(fake_quantized(values, ends[0], ends[1]) - values))

    ends = tf.Variable([low, high])
    first = float(error(ends))
    for step in np.geomspace(0.3, 0.01, 300):
        with tf.GradientTape() as tape:
            loss = error(ends)
        ends.assign_sub(step * tf.sign(tape.gradient(loss, ends)))
    best = min(float(error((-width, width))) for width in np.linspace(2, 5, 31, dtype=np.float32))
    assert float(error(ends)) < min(0.1 * first, 2 * best)


def test_fine_tuning_moves_ranges_together_and_leaves_those_that_are_fixed(start):
    state = start.copy()
    before = dict(state.ranges)
    groups = free_scales(state.network, before)
    assert state.network.input not in {tensor for group in groups for tensor in group}
    state.plan = Plan(steps=20, batch=4, rate=0.1)
    STEPS["fine-tuning"].apply(state)
    assert state.ranges[state.network.input] == before[state.network.input]
    assert any(len(group) > 1 for group in groups)
    for group in groups:
        assert len({state.ranges[tensor] for tensor in group}) == 1
        assert state.ranges[group[0]] != before[group[0]]
    state.content("int8")


def test_fine_tuning_that_does_not_help_is_dropped(start):
    state = start.copy()
    state.plan = Plan(steps=2, batch=2, rate=50.0)
    kernels = [state.network.kernel(op)[0].copy() for op in state.network.ops if op.kind == "CONV_2D"]
    ranges = dict(state.ranges)
    STEPS["fine-tuning"].apply(state)
    assert state.ranges == ranges
    for op, kernel in zip((op for op in state.network.ops if op.kind == "CONV_2D"), kernels, strict=True):
        assert np.array_equal(state.network.kernel(op)[0], kernel)


def test_segments_cover_the_network_and_the_worst_comes_first(state):
    network = state.network
    assert [op.outputs for ops in cut(network) for op in ops] == [op.outputs for op in network.ops]
    images = np.concatenate(pictures(4, seed=3))
    stem = network.ops[0].outputs[0]
    ranges = dict(state.ranges)
    ranges[stem] = (-1e4, 1e4)  # one layer that int8 ruins
    segments = damaging_segments(network, ranges, images, state.names, state.spec)
    assert stem in segments[0].outputs and segments[0].damage > 0.5
    assert sum(segment.work for segment in segments) == pytest.approx(1)
    exact = forward(network, images)[network.outputs[0]]
    all_int8 = forward(network, images, ranges)[network.outputs[0]]
    mixed = forward(network, images, ranges, keep=segments[0].outputs)[network.outputs[0]]
    error = [float(tf.reduce_mean(tf.square(x - exact))) for x in (all_int8, mixed)]
    assert error[1] < 0.2 * error[0]


def test_as_many_layers_stay_float_as_time_allows(state, monkeypatch):
    images = np.concatenate(pictures(2, seed=3))
    segments = damaging_segments(state.network, state.ranges, images, state.names, state.spec)
    segments = [segment._replace(damage=0.3) for segment in segments[:4]] + [segments[4]._replace(damage=0.0)]
    slow = segments[1].outputs  # fits into no time at all
    monkeypatch.setattr("convert.rescue.mixed.slowdown", lambda reference, other: 1 + 0.03 * len(other))
    kept = keep_float(
        segments, lambda keep: b"x" * sum(9 if s.outputs == slow else 1 for s in segments if s.outputs <= keep)
    )
    assert kept == segments[0].outputs | segments[2].outputs | segments[3].outputs


def test_what_stays_float_is_float_in_the_file(state):
    state.keep = frozenset(op.outputs[0] for op in state.network.ops[:2])
    runner = Runner(state.content("int8"))
    names = {state.network.name(tensor) for tensor in state.keep}
    details = [d for d in runner._interpreter.get_tensor_details() if d["name"] in names]
    assert any(detail["dtype"] == np.float32 for detail in details)
    assert runner.input["dtype"] == np.int8


def test_steps_together_repair_what_naive_int8_ruins(model):
    result = rescue(model, samples, ("equalisation", "head-scales", "mse-ranges", "logit-clipping"))
    assert result.steps == ("mse-ranges", "head-scales", "logit-clipping", "equalisation")
    assert [trial.step for trial in result.trials] == list(result.steps)
    images = pictures(4, seed=5)
    exact = Runner(quantize(model, "float32"))
    naive, repaired = Runner(quantize(model, "int8", samples)), Runner(result.content)
    errors = np.zeros(2)
    for image in images:
        sizes = exact(image)["head_0"].reshape(8, 8, 2, 8)[..., 2:4]
        errors += [
            np.square(naive(image)["head_0"].reshape(8, 8, 2, 8)[..., 2:4] - sizes).mean(),
            np.square(repaired(image)["head_0_wh"].reshape(8, 8, 2, 2) - sizes).mean(),
        ]
    assert errors[1] < 0.2 * errors[0]


def test_auto_stops_at_the_first_that_passes(model):
    values = iter((0.1, 0.3, 0.2, 0.5))

    def judge(content, spec):
        assert Runner(content).outputs.keys() == set(spec.decoder.outputs.values())
        value = next(values)
        return Verdict(value, value >= 0.5)

    result = rescue_auto(model, samples, judge)
    assert result.steps == ("percentile-ranges", "head-scales", "logit-clipping", "equalisation")
    assert [trial.value for trial in result.trials] == [0.1, 0.3, 0.2, 0.5]
    assert result.verdict == Verdict(0.5, True)


def test_auto_gives_the_best_when_none_passes(model, monkeypatch):
    values = iter((0.1, 0.3, 0.2, 0.25, 0.1))
    monkeypatch.setitem(STEPS, "fine-tuning", STEPS["fine-tuning"]._replace(apply=lambda state: "trained"))
    result = rescue_auto(model, samples, lambda content, spec: Verdict(next(values), False))
    assert result.steps == ("percentile-ranges", "head-scales")
    assert result.verdict == Verdict(0.3, False)
    assert [trial.step for trial in result.trials][-1] == "fine-tuning"
    assert "mixed-precision" not in [trial.step for trial in result.trials]


def test_auto_keeps_the_better_of_those_that_pass_by_luck(model):
    verdicts = [Verdict(0.5, False, (1.0, rank), "luck") for rank in (0.6, 0.72, 0.71, 0.7)]
    left = iter(verdicts)
    result = rescue_auto(model, samples, lambda content, spec: next(left), plan=Plan(minutes=0))
    assert result.steps == ("percentile-ranges", "head-scales")
    assert result.verdict == verdicts[1]
    assert [trial.why for trial in result.trials[:-1]] == ["luck"] * 4
    assert result.trials[-1].value is None and "gives it no time" in result.trials[-1].did


def test_fine_tuning_ends_when_its_time_is_up(start, monkeypatch):
    state = start.copy()
    state.plan = Plan(steps=1000, batch=2, rate=0.1, minutes=0.5)
    clock = iter((0, 0, 1000, *range(1010, 9000, 10)))  # preparation, then steps of ten seconds
    monkeypatch.setattr("convert.rescue.finetune.perf_counter", lambda: next(clock))
    assert STEPS["fine-tuning"].apply(state).endswith("in 3 steps")


def test_a_classifier_is_rescued_too():
    image = keras.Input((32, 32, 3), batch_size=1)
    x = L.ReLU(6.0)(L.Conv2D(8, 3, 2, "same")(image))
    x = L.Dense(4, "softmax")(L.GlobalAveragePooling2D()(x))
    model = loaded(keras.Model(image, x), "classifier")
    steps = [name for name in STEPS if name not in ("mixed-precision", "mse-ranges")]
    result = rescue(model, samples, steps, io="float32", plan=Plan(steps=1, batch=2))
    exact, found = Runner(quantize(model, "float32")), Runner(result.content)
    for image in pictures(3, seed=9):
        assert np.allclose(exact(image)["head_0"], found(image)["head_0"], atol=0.05)
    assert result.spec == model.spec


def test_what_cannot_be_rescued_is_said_in_a_line(model):
    with pytest.raises(InputError, match="unknown step 'magic'; expected some of percentile-ranges, mse-ranges"):
        rescue(model, samples, ("magic",))
    with pytest.raises(InputError, match="needs pictures"):
        rescue(model, lambda: iter(()), ("mse-ranges",))
    image = keras.Input((32, 32, 3), batch_size=1)
    x = L.Conv2D(4, 3, 2, "same")(image)
    unknown = loaded(keras.Model(image, L.Lambda(lambda v: tf.cumsum(v, axis=1))(x)))
    with pytest.raises(InputError, match="no step knows the operator CUMSUM"):
        rescue(unknown, samples, ("bias-correction",))
    assert Runner(rescue_auto(unknown, samples, lambda *_: Verdict(1.0, True)).content)
