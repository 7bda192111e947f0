"""The training loop of a detector: `train` carries a run from where it stands to its end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.detection.augment import batches
from models.detection.config import DetectorConfig
from models.detection.data import Pool, epoch_order, load_data, load_test
from models.detection.evaluate import measure
from models.detection.heads import Head
from models.detection.heads.anchors import cluster_anchors
from models.detection.pictures import draw_augmented, draw_detector_curves, draw_predictions
from models.detection.report import write_report, write_spec
from models.detection.sets import read_sets
from models.detection.trainer import DetectorTrainer, make_head, sizes_at
from models.detection.weights import load_start
from models.training.reporter import Reporter
from models.training.run import RunFolder

_SHOWN = 24


def train(run: RunFolder[DetectorConfig], reporter: Reporter, cache: Path | None = None) -> dict[str, Any]:
    """Train, from the last checkpoint of the run when it has one, and write the report.

    Args:
        run: The run; its state moves on with every epoch.
        reporter: Told how it goes.
        cache: Folder for decoded pictures; a folder in the run when None.

    Returns:
        The summary that ``summary.json`` holds.

    Raises:
        InputError: The data, the weights or the checkpoint cannot be used, or the loss is no number any more.
        OutputError: The run folder cannot be written.
    """
    config = run.config
    tf.config.experimental.enable_op_determinism()
    state = run.state
    # Before the pictures are decoded: weights that cannot be used are told at once.
    start = load_start(config.start_file) if config.start_file and not state.epoch else None
    teacher = load_start(config.distill) if config.distill else None
    sets = read_sets(config.data)
    cache = cache or run.path / "cache"
    data, val = load_data(sets, cache, config.size, config.val_fraction, config.seed, reporter.loading)
    trainer = DetectorTrainer(config, data.labels, _head(config, data), start, teacher)
    if state.epoch:
        trainer.restore(run.checkpoint)
    run.begin(data.labels)
    if not state.epoch:
        images, rows = _first_batch(trainer, data)
        run.replace(run.path / "augmented.png", lambda path: draw_augmented(images, rows, data.labels, path))

    while trainer.progress() < 1.0:
        _epoch(run, trainer, data, val, reporter)
    test = load_test(sets, data.labels, cache, config.size, reporter.loading)
    return write_report(run, trainer.spec, data, val, test)


def _head(config: DetectorConfig, data: Pool) -> Head:
    if config.head == "anchor-free":
        return make_head(config.head)
    rows = np.concatenate(data.rows())
    rows = rows[rows[:, 0] >= 0]
    return make_head(config.head, cluster_anchors(rows[:, 3:] - rows[:, 1:3], config.seed))


def _first_batch(trainer: DetectorTrainer, data: Pool) -> tuple[Any, Any]:
    config = trainer.config
    order = np.resize(epoch_order(data, np.random.default_rng([config.seed, 0]), config.rare_threshold), _SHOWN)
    sizes = sizes_at(1.0, config.size)
    return next(batches(data, order, _SHOWN, sizes, [config.seed, 0], trainer.augmentation(0.0)))


def _epoch(run: RunFolder[DetectorConfig], trainer: DetectorTrainer, data: Pool, val: Pool, reporter: Reporter) -> None:
    config, state = run.config, run.state
    order = trainer.order(data)
    steps = max(1, len(order) // config.batch_size)
    reporter.epoch_began("train", trainer.epoch + 1, config.epochs, steps)
    metrics = trainer.run_epoch(data, order, reporter.step)
    best = False
    if trainer.epoch % config.eval_every == 0 or trainer.progress() >= 1.0:
        scores = measure(trainer.deployed, val)
        metrics |= {"val_ap50": round(scores["ap50"], 5), "val_ap": round(scores["ap"], 5)}
        if len(scores["parts"]) > 1:
            metrics["val_parts"] = {
                name: [round(part["ap50"], 5), round(part["ap"], 5)] for name, part in scores["parts"].items()
            }
        best = scores["ap"] > state.best or not math.isfinite(state.best)
        if best:
            state.best, state.best_epoch = scores["ap"], trainer.epoch
            run.replace(run.best, trainer.average.save)
            write_spec(run, trainer.spec, scores)
            run.replace(run.path / "predictions.png", lambda path: draw_predictions(trainer.deployed, val, path))
    state.epoch, state.seconds = trainer.epoch, trainer.seconds
    run.log(metrics)
    run.save_state(trainer.save)
    run.replace(run.path / "curves.png", lambda path: draw_detector_curves(run.metrics(), path))
    reporter.epoch_ended({**metrics, "best": best})
