from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from rectangles import SIZE

from edge.spec import ModelSpec
from models.detection_eval import average_precision
from models.export_detector import load_best, measure, model_spec
from models.train_detector import DetectorConfig, DetectorTrainer, learning_rate_at, size_at, train

# Keras 3.15 hands its variables to NumPy without the `copy` keyword that NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Killed(Exception):
    """Stands for the signal that ends a run."""


@pytest.fixture(scope="module", autouse=True)
def quick_graphs():
    """Leave graphs as they are traced: optimising them takes longer than the few steps here."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture(scope="module")
def config(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return DetectorConfig(
        data=dataset, run=folder / "run", cache=folder / "cache", epochs=3, size=SIZE, batch_size=8, width=16,
        backbone_weights=None, eval_every=3, rare_threshold=0.0, attribution="Rectangles by the test suite.",
        data_licence="CC0-1.0",
    )  # fmt: skip


@pytest.fixture(scope="module")
def killed_run(config):
    """Train, kill after the second of three epochs, resume."""
    seen = []

    def stop(metrics):
        seen.append(metrics)
        if metrics["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(config, on_epoch=stop)
    final = train(config, resume=True, on_epoch=seen.append)
    return seen, final


def test_schedules():
    assert learning_rate_at(0.0, 1.0) < 0.1
    assert learning_rate_at(0.03, 1.0) == pytest.approx(1.0)
    assert learning_rate_at(1.0, 1.0) == pytest.approx(0.02)
    rates = [learning_rate_at(step / 100, 1.0) for step in range(3, 101)]
    assert rates == sorted(rates, reverse=True)
    assert [size_at(progress, 320) for progress in (0.0, 0.49, 0.5, 1.0)] == [256, 256, 320, 320]


def test_resume_continues_after_the_last_epoch(killed_run, config):
    seen, final = killed_run
    assert [metrics["epoch"] for metrics in seen] == [1, 2, 3]
    assert final["epoch"] == 3
    lines = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["minutes"] > lines[1]["minutes"]


def test_resuming_a_finished_run_trains_nothing(killed_run, config):
    seen = []
    final = train(config, resume=True, on_epoch=seen.append)
    assert not seen
    assert final["epoch"] == 3


def test_a_run_is_not_started_over_by_mistake(killed_run, config):
    with pytest.raises(FileExistsError, match="resume"):
        train(config)


def test_run_folder_is_complete(killed_run, config):
    assert (config.run / "labels.txt").read_text() == "red\nblue\n"
    settings = json.loads((config.run / "config.json").read_text())
    assert settings["seed"] == 0
    assert settings["labels"] == ["red", "blue"]
    model = load_best(config.run)
    assert model.input_shape == (None, SIZE, SIZE, 3)
    assert not list(config.run.glob("*partial*"))


def test_checkpoint_of_another_architecture_is_refused(config, killed_run):
    with pytest.raises(ValueError, match="hape"):
        DetectorTrainer(dataclasses.replace(config, width=24), 2).restore(config.run / "last.npz")


def test_losses_fall_then_a_restored_trainer_equals_the_saved_one(config, split, tmp_path):
    first = DetectorTrainer(dataclasses.replace(config, epochs=10, mosaic=0.0), 2)
    images = np.ascontiguousarray(split.images[:8])
    truth = np.stack([boxes[:2] for boxes in split.boxes[:8]])
    losses = [float(first._step(images, truth).numpy().sum()) for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])

    first.epoch, first.seconds, first.best = 4, 12.5, 0.25
    first.save(tmp_path / "last.npz")
    second = DetectorTrainer(dataclasses.replace(config, seed=1, epochs=1000, max_minutes=1.0), 2)
    second.restore(tmp_path / "last.npz")
    assert (second.epoch, second.seconds, second.best) == (4, 12.5, 0.25)
    for mine, theirs in ((second.model, first.model), (second.average, first.average)):
        for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert int(second.optimizer.iterations.numpy()) == 40
    for a, b in zip(second.optimizer.variables, first.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())

    # The time limit is what moves this schedule: its epochs are far away.
    assert second.progress() == pytest.approx(12.5 / 60)
    second.seconds = 90.0
    assert second.progress() == 1.0


def test_perfect_results_score_one(split):
    results = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for annotation in split.annotations["annotations"]
    ]
    scores = average_precision(split, results)
    assert scores["ap"] == pytest.approx(1.0)
    assert set(scores["per_class"]) == {"red", "blue"}
    assert average_precision(split, [])["ap50"] == 0.0


def test_description_of_the_run_is_a_valid_spec(killed_run, config):
    scores = measure(config.run, "valid", cache=config.cache)
    spec = ModelSpec.model_validate(model_spec(config.run))
    assert spec.labels == ("red", "blue")
    assert spec.input.size_wh == (SIZE, SIZE)
    assert spec.decoder.params == {"strides": [8, 16, 32]}
    assert set(spec.decoder.outputs) == {"box_8", "cls_8", "box_16", "cls_16", "box_32", "cls_32"}
    assert spec.provenance.licence == "CC0-1.0"
    assert spec.provenance.attribution == "Rectangles by the test suite."
    assert spec.accuracy[0].metrics["mAP50"] == pytest.approx(scores["ap50"])


def test_run_without_best_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"best\.keras"):
        load_best(tmp_path)
