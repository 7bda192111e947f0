from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from rectangles import SIZE

from edge.errors import InputError
from edge.spec import ModelSpec
from edge.spec.resolve import parse_spec
from models.detection.config import DetectorConfig
from models.detection.evaluate import average_precision, detect
from models.detection.heads.anchors import cluster_anchors
from models.detection.train import train
from models.detection.trainer import DetectorTrainer, learning_rate_at, make_head, sizes_at
from models.training.run import RunFolder

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LABELS = ("red", "blue")


class Killed(Exception):
    """Stands for the signal that ends a run."""


class Quiet:
    """A reporter that remembers the metrics, and kills the run after an epoch."""

    def __init__(self, kill_after=0):
        self.seen, self.steps, self._kill_after = [], 0, kill_after

    def loading(self, chunks):
        return chunks

    def epoch_began(self, phase, number, epochs, steps):
        assert (phase, epochs, steps) == ("train", 3, 2)

    def step(self, logs):
        self.steps += 1

    def epoch_ended(self, metrics):
        self.seen.append(metrics)
        if metrics["epoch"] == self._kill_after:
            raise Killed


@pytest.fixture(scope="module", autouse=True)
def quick_graphs():
    """Leave graphs as they are traced: optimising them takes longer than the few steps here."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture(scope="module")
def config(dataset):
    return DetectorConfig(
        data=dataset, epochs=3, size=SIZE, batch_size=8, weights=None, eval_every=3, rare_threshold=0.0,
        attribution="Rectangles by the test suite.", licence="CC0-1.0",
    )  # fmt: skip


@pytest.fixture(scope="module")
def killed_run(config, tmp_path_factory):
    """Train, kill after the second of three epochs, resume."""
    folder = tmp_path_factory.mktemp("run") / "run"
    first = Quiet(kill_after=2)
    with pytest.raises(Killed):
        train(RunFolder.create(folder, config), first)
    second = Quiet()
    summary = train(RunFolder.open(folder), second)
    return folder, first.seen + second.seen, summary


def test_schedules():
    assert learning_rate_at(0.0, 1.0) < 0.1
    assert learning_rate_at(0.03, 1.0) == pytest.approx(1.0)
    assert learning_rate_at(1.0, 1.0) == pytest.approx(0.02)
    rates = [learning_rate_at(step / 100, 1.0) for step in range(3, 101)]
    assert rates == sorted(rates, reverse=True)
    assert [sizes_at(progress, 320) for progress in (0.0, 0.49, 0.5, 0.79, 0.8, 1.0)] == [
        (224, 256, 288), (224, 256, 288), (288, 320, 352), (288, 320, 352), (320,), (320,)
    ]  # fmt: skip
    assert sizes_at(0.0, 32) == (32, 64)


def test_resume_continues_after_the_last_epoch(killed_run):
    folder, seen, summary = killed_run
    assert [metrics["epoch"] for metrics in seen] == [1, 2, 3]
    assert summary["epochs"] == 3
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["minutes"] >= lines[1]["minutes"]
    assert "val_ap" in lines[2]


def test_a_resumed_run_learns_the_same(killed_run, config, tmp_path):
    whole = Quiet()
    train(RunFolder.create(tmp_path / "whole", config), whole)
    for mine, theirs in zip(whole.seen, killed_run[1], strict=True):
        for key in ("class_loss", "box_loss", "val_ap", "learning_rate"):
            assert mine.get(key) == theirs.get(key), (mine["epoch"], key)


def test_resuming_a_finished_run_trains_nothing(killed_run):
    quiet = Quiet()
    summary = train(RunFolder.open(killed_run[0]), quiet)
    assert not quiet.seen
    assert summary["epochs"] == 3


def test_run_folder_is_complete(killed_run):
    folder, _, summary = killed_run
    assert (folder / "labels.txt").read_text() == "red\nblue\n"
    assert json.loads((folder / "config.json").read_text())["task"] == "detector"
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["val"]["parts"]["data val"]["images"] == 16
    for name in ("augmented.png", "predictions.png", "curves.png"):
        assert min(cv2.imread(str(folder / name)).shape[:2]) > 200, name
    assert len(list((folder / "calibration").glob("*.png"))) == 16
    assert not list(folder.glob("*partial*"))
    assert [path.name for path in folder.glob("last-*")] == ["last-3.npz"]


def test_description_of_the_run_is_a_valid_spec(killed_run):
    folder, _, summary = killed_run
    spec: ModelSpec = parse_spec((folder / "best.spec.json").read_bytes(), folder)
    assert spec.labels == LABELS
    assert spec.input.size_wh == (SIZE, SIZE)
    assert spec.decoder.params == {"strides": [8, 16, 32]}
    assert set(spec.decoder.outputs) == {"box_8", "cls_8", "box_16", "cls_16", "box_32", "cls_32"}
    assert spec.provenance.licence == "CC0-1.0"
    assert spec.provenance.attribution == "Rectangles by the test suite."
    assert spec.accuracy[0].metrics["mAP50"] == pytest.approx(summary["val"]["ap50"], abs=1e-4)


def test_checkpoint_of_another_architecture_is_refused(killed_run, config):
    other = DetectorTrainer(config, ("red", "blue", "green"), make_head("anchor-free"))
    with pytest.raises(InputError, match=r"last-3\.npz: not a checkpoint of this run"):
        other.restore(killed_run[0] / "last-3.npz")


@pytest.mark.parametrize("head", ["anchor-free", "anchors"])
def test_a_network_learns_rectangles_and_a_restored_trainer_equals_the_saved_one(head, config, pool, tmp_path):
    (part,) = pool.parts
    sizes = np.concatenate(part.rows)[:, 3:] - np.concatenate(part.rows)[:, 1:3]
    made = make_head(head, cluster_anchors(sizes, 0) if head == "anchors" else None)
    settings = config.model_copy(update={"head": head, "epochs": 10, "mosaic": 0.0, "ema": 0.9})
    first = DetectorTrainer(settings, LABELS, made)
    first.optimizer.learning_rate = 5e-3
    images = np.ascontiguousarray(part.images[:8])
    truth = np.stack([rows[:2] for rows in part.rows[:8]])
    losses = [float(first._step(images, truth).numpy().sum()) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])

    first.epoch, first.seconds = 4, 12.5
    first.save(tmp_path / "last.npz")
    second = DetectorTrainer(settings.model_copy(update={"seed": 1, "epochs": 1000, "max_minutes": 1.0}), LABELS, made)
    second.restore(tmp_path / "last.npz")
    assert (second.epoch, second.seconds) == (4, 12.5)
    for mine, theirs in ((second.model, first.model), (second.average, first.average)):
        for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert int(second.optimizer.iterations.numpy()) == 60

    # The time limit is what moves this schedule: its epochs are far away.
    assert second.progress() == pytest.approx(12.5 / 60)
    second.seconds = 90.0
    assert second.progress() == 1.0


def test_perfect_results_score_one(pool):
    (part,) = pool.parts
    results = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for annotation in part.truth["annotations"]
    ]
    scores = average_precision(part, LABELS, results)
    assert scores["ap"] == pytest.approx(1.0)
    assert set(scores["per_class"]) == {"red", "blue"}
    assert sum(scores["boxes"].values()) == len(results)
    assert average_precision(part, LABELS, [])["ap50"] == 0.0


def test_results_are_in_pixels_of_the_pictures(pool):
    (part,) = pool.parts
    row = part.rows[0][0]

    def network(images, confidence):
        none = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
        one = (row[None, 1:], np.array([0.7], np.float32), row[:1].astype(np.int32))
        return [one] + [none] * (len(images) - 1)

    (result,) = detect(network, part, batch_size=16)
    truth = next(a for a in part.truth["annotations"] if a["image_id"] == part.truth["images"][0]["id"])
    assert result["category_id"] == truth["category_id"]
    np.testing.assert_allclose(result["bbox"], truth["bbox"], atol=1e-3)
