"""Runs of `edge train` on small synthetic data: what they leave, resuming, freezing, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from edge.errors import InputError
from models.training.config import TrainConfig
from models.training.network import build_network, input_spec, phases
from models.training.run import RunFolder
from models.training.scores import iou, measure
from models.training.trainer import train

# Keras asks NumPy for arrays in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIDE = 16


class Silent:
    """A reporter that remembers, and can stop a run as a kill would: before anything of an epoch is written."""

    def __init__(self, stop_in_epoch: int | None = None) -> None:
        self.epochs: list[dict[str, Any]] = []
        self._stop, self._begun = stop_in_epoch, 0

    def loading(self, chunks: Any) -> Any:
        return chunks

    def epoch_began(self, phase: Any, number: int, epochs: int, steps: int) -> None:
        self._begun += 1

    def step(self, logs: dict[str, float]) -> None:
        if self._begun == self._stop:
            raise KeyboardInterrupt

    def epoch_ended(self, metrics: dict[str, Any]) -> None:
        self.epochs.append(metrics)


def stripes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gray pictures of two classes: horizontal or vertical stripes, with noise."""
    labels = rng.integers(0, 2, count)
    pictures = np.zeros((count, SIDE, SIDE), np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[::4] = picture[1::4] = 200
        if label:
            picture[:] = picture.T
    return np.clip(pictures + rng.normal(0, 20, pictures.shape), 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def stripes_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stripes") / "stripes.npz"
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = stripes(160, rng), stripes(40, rng)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def config(data: Path, **changes: Any) -> TrainConfig:
    fields = {"task": "classifier", "data": data, "model": "mnist-convnet-a", "size_wh": (28, 28), "epochs": 3}
    return TrainConfig.model_validate({**fields, "batch_size": 32, "learning_rate": 3e-3, "augment": "none", **changes})


@pytest.fixture(scope="module")
def finished(stripes_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder.create(tmp_path_factory.mktemp("runs") / "run", config(stripes_npz, augment="digits"))
    train(run, Silent())
    return run


def test_a_run_leaves_what_its_docstring_says(finished: RunFolder) -> None:
    folder = finished.path
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test"]["accuracy"] > 0.95 and summary["test"]["images"] == 40
    assert [row["epoch"] for row in finished.metrics()] == [1, 2, 3]
    assert (folder / "labels.txt").read_text().split() == ["0", "1"]
    spec = json.loads((folder / "best.spec.json").read_text())
    assert spec["input"]["color"] == "GRAY" and spec["decoder"]["name"] == "classifier"
    assert len(list((folder / "calibration").glob("*.png"))) == 144
    for name in ("curves", "augmented", "confusion"):
        assert cv2.imread(str(folder / f"{name}.png")) is not None, name
    assert not list(folder.glob("partial-*"))
    assert [path.name for path in folder.glob("last-*")] == ["last-3.weights.h5"]


def test_the_deployed_network_holds_no_augmentation(finished: RunFolder) -> None:
    model = keras.saving.load_model(finished.best, compile=False)
    assert not [layer.name for layer in model.layers if layer.name.startswith("random")]


def test_it_converts_and_classifies_without_a_flag(finished: RunFolder, tmp_path: Path, stripes_npz: Path) -> None:
    from convert.api import convert_model
    from convert.load import load
    from edge.classifier import Classifier
    from edge.evaluate import evaluate_classifier
    from edge.labelled import open_labelled

    out = tmp_path / "stripes.tflite"
    convert_model(lambda: load(finished.best), out, "int8", finished.path / "calibration")
    accuracy = evaluate_classifier(Classifier.load(out), open_labelled(stripes_npz, "test"))
    assert accuracy.top1 > 0.95


def test_same_seed_same_result_and_a_kill_loses_one_epoch(
    finished: RunFolder, stripes_npz: Path, tmp_path: Path
) -> None:
    run = RunFolder.create(tmp_path / "run", finished.config)
    with pytest.raises(KeyboardInterrupt):
        train(run, Silent(stop_in_epoch=3))
    again = RunFolder.open(tmp_path / "run")
    assert again.state.epoch == 2
    reporter = Silent()
    train(again, reporter)
    assert [row["epoch"] for row in reporter.epochs] == [3]
    timeless = {"images_per_s", "minutes"}
    for ours, theirs in zip(again.metrics(), finished.metrics(), strict=True):
        assert {k: v for k, v in ours.items() if k not in timeless} == {
            k: v for k, v in theirs.items() if k not in timeless
        }


def test_a_finished_run_resumes_to_nothing(finished: RunFolder) -> None:
    reporter = Silent()
    train(RunFolder.open(finished.path), reporter)
    assert not reporter.epochs


def test_patience_ends_a_phase_early(stripes_npz: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", config(stripes_npz, epochs=30, patience=1, learning_rate=1e-9))
    train(run, Silent())
    assert run.state.epoch < 30


def test_an_existing_run_is_not_overwritten(finished: RunFolder) -> None:
    with pytest.raises(InputError, match="--resume"):
        RunFolder.create(finished.path, finished.config)


def test_resuming_nothing_or_rubbish_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.json").write_text('{"task": "dance"}')
    with pytest.raises(InputError, match="config.json"):
        RunFolder.open(tmp_path)


def test_a_loss_that_explodes_is_one_sentence(stripes_npz: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", config(stripes_npz, learning_rate=1e30, weight_decay=0.0))
    with pytest.raises(InputError, match="lower --learning-rate"):
        train(run, Silent())


def test_freezing_keeps_base_and_statistics(tmp_path: Path) -> None:
    settings = config(tmp_path, model="resnet-18", size_wh=(32, 32), color="RGB")
    network = build_network(settings, input_spec(settings), 3)._replace(pretrained=True)
    network.freeze(None)
    assert {weight.path.split("/")[0] for weight in network.model.trainable_weights} == {"scores"}
    half = len(network.base) // 2
    network.freeze(half)
    learning = {layer.name for layer in network.base if layer.trainable}
    norms = {layer.name for layer in network.base if isinstance(layer, keras.layers.BatchNormalization)}
    assert learning and not learning & norms
    assert not learning & {layer.name for layer in network.base[:half]}


def test_phases_follow_the_configuration(finished: RunFolder) -> None:
    settings = config(finished.config.data, freeze_epochs=2, fine_tune_from="conv_2", weights=str(finished.best))
    network = build_network(settings, input_spec(settings), 2)
    head, fine = phases(settings, network)
    assert (head.name, head.epochs, head.frozen) == ("head", 2, None)
    assert network.base[fine.frozen].name == "conv_2"
    with pytest.raises(InputError, match="conv_2"):
        phases(settings.model_copy(update={"fine_tune_from": "conv_22"}), network)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "lenet5"}, "lenet-5"),
        ({"model": "edge-yolo-n"}, "detector"),
        ({"weights": "imagenet"}, "mobilenet-v2-0.35"),
        ({"model": "mobilenet-v2-0.35", "weights": "imagenet", "color": "BGR"}, "take RGB"),
        ({"weights": "/no/such.keras"}, "no/such.keras"),
        ({"size_wh": (2, 2)}, "2 x 2"),
    ],
)
def test_impossible_networks_are_refused_in_a_sentence(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = config(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as raised:
        build_network(settings, input_spec(settings), 10)
    assert "\n" not in str(raised.value)


def test_weights_come_from_a_trained_file(finished: RunFolder, tmp_path: Path) -> None:
    settings = config(tmp_path, weights=str(finished.best))
    spec = input_spec(settings)
    network = build_network(settings, spec, 5)  # another number of classes: the head is new
    assert network.pretrained and spec.color == "GRAY"
    trained = keras.saving.load_model(finished.best, compile=False)
    name = network.base[1].name
    assert np.array_equal(network.model.get_layer(name).get_weights()[0], trained.get_layer(name).get_weights()[0])


def write_squares(root: Path) -> Path:
    """COCO pictures with one rectangle each, yellow or blue."""
    rng = np.random.default_rng(1)
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", 64), ("valid", 32)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            blue = int(rng.integers(2))
            w, h = (int(side) for side in rng.integers(12, 28, 2))
            x, y = int(rng.integers(0, 48 - w)), int(rng.integers(0, 48 - h))
            picture = np.full((48, 48, 3), 60, np.uint8)
            picture[y : y + h, x : x + w] = (220, 40, 40) if blue else (40, 220, 220)
            cv2.imwrite(str(root / split / f"{number}.png"), picture)
            images.append({"id": number, "file_name": f"{split}/{number}.png", "width": 48, "height": 48})
            annotations.append({"id": number + 1, "image_id": number, "category_id": blue + 1, "bbox": [x, y, w, h]})
        categories = [{"id": 1, "name": "yellow"}, {"id": 2, "name": "blue"}]
        data = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    return root


def test_a_localizer_learns_class_and_box(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "squares")
    settings = config(
        data, task="localizer", epochs=12, batch_size=16, color="RGB", size_wh=(48, 48), loss_weights=(0.5, 0.5)
    )
    run = RunFolder.create(tmp_path / "run", settings)
    summary = train(run, Silent())
    assert summary["val"]["accuracy"] > 0.9
    assert summary["val"]["iou"] > 0.5
    spec = json.loads((run.path / "best.spec.json").read_text())
    assert spec["decoder"]["name"] == "localizer" and set(spec["decoder"]["outputs"]) == {"scores", "box"}
    assert "IoU" in spec["accuracy"][0]["metrics"]


def test_a_localizer_without_boxes_is_refused(stripes_npz: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", config(stripes_npz, task="localizer"))
    with pytest.raises(InputError, match="instances_train.json"):
        train(run, Silent())


def test_scores_of_known_predictions() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0.5, 0.2, 0.2]], np.float32)
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    found = measure(scores, boxes, np.array([0, 1, 1]), truth)
    assert found.numbers["accuracy"] == pytest.approx(2 / 3)
    assert found.numbers["iou"] == pytest.approx(0.5)
    assert found.numbers["both"] == pytest.approx(2 / 3)
    assert found.confusion.tolist() == [[1, 0], [1, 1]]
    assert iou(truth[:1], truth[:1] * 0)[0] == 0
