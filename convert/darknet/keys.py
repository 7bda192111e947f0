"""Which sections and keys of a `.cfg` are known, and what each key means for inference.

Collected from the option readers of Darknet (pjreddie) and of its most used fork (AlexeyAB).
"""

from __future__ import annotations

from typing import NamedTuple

ALIASES = {
    "network": "net",
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
}
"""Darknet's second names of sections."""


class Keys(NamedTuple):
    """The known keys of one section.

    Attributes:
        read: Keys that the converter reads.
        neutral: Keys that change the result, with the only value under which they do not.
        training: Keys that inference never looks at.
    """

    read: frozenset[str]
    neutral: dict[str, str]
    training: frozenset[str]


_ANY_TRAINING = """stopbackward learning_rate burnin_update train_only_bn onlyforward clip smooth extra show_details
    truth stream wait_stream grad_centr unsupervised"""
_ANY_NEUTRAL = {"dontload": "0", "dontloadscales": "0"}
_NET = """batch subdivisions momentum decay angle saturation exposure hue learning_rate learning_rate_min burn_in
    max_batches policy steps scales seq_scales step scale gamma power sgdr_cycle sgdr_mult max_crop min_crop aspect flip
    blur gaussian_noise mixup cutmix mosaic mosaic_bound label_smooth_eps resize_step adam B1 B2 eps seen random
    augment_speed track sequential_subdivisions try_fix_nan weights_reject_freq equidistant_point
    badlabels_rejection_percentage num_sigmas_reject_badlabels ema_alpha use_cuda_graph loss_scale dynamic_minibatch
    optimized_memory workspace_size_limit_MB contrastive contrastive_jit_flip contrastive_color attention
    adversarial_lr max_chart_loss show_receptive_field notruth center hyp letter_box"""
_YOLO = """jitter ignore_thresh truth_thresh random iou_thresh iou_loss iou_normalizer obj_normalizer cls_normalizer
    delta_normalizer iou_thresh_kind label_smooth_eps max_delta counters_per_class objectness_smooth resize focal_loss
    max nms_kind beta_nms map track_history_size sim_thresh dets_for_track dets_for_show track_ciou_norm thresh
    nms_threshold"""
_REGION = """jitter ignore_thresh truth_thresh random bias_match coord_scale object_scale noobject_scale class_scale
    mask_scale absolute thresh rescore classfix max resize focal_loss log sqrt"""


def _keys(read: str = "", training: str = "", **neutral: str) -> Keys:
    return Keys(
        frozenset(read.split()), {**_ANY_NEUTRAL, **neutral}, frozenset(training.split() + _ANY_TRAINING.split())
    )


SECTIONS: dict[str, Keys] = {
    "net": _keys("width height channels", _NET, time_steps="1"),
    "convolutional": _keys(
        "filters size stride stride_x stride_y pad padding groups dilation batch_normalize activation cbn",
        "angle dot reverse",
        flipped="0",
        binary="0",
        xnor="0",
        bin_output="0",
        antialiasing="0",
        share_index="-1000000000",
        assisted_excitation="0",
        sway="0",
        rotate="0",
        stretch="0",
        stretch_sway="0",
        coordconv="0",
    ),
    "maxpool": _keys(
        "size stride stride_x stride_y padding", "maxpool_zero_nonmax out_channels", maxpool_depth="0", antialiasing="0"
    ),
    "avgpool": _keys(),
    "route": _keys("layers groups group_id"),
    "shortcut": _keys("from activation", weights_type="none", weights_normalization="none", alpha="1", beta="1"),
    "upsample": _keys("stride", scale="1"),
    "dropout": _keys("", "probability dropblock dropblock_size_rel dropblock_size_abs"),
    "reorg": _keys("stride", reverse="0", flatten="0"),
    "connected": _keys("output activation batch_normalize"),
    "softmax": _keys("", "noloss", groups="1", temperature="1", spatial="0", tree=""),
    "cost": _keys("", "type scale ratio"),
    "region": _keys("anchors classes num softmax", _REGION, coords="4", background="0", tree="", map=""),
    "yolo": _keys("mask anchors classes num scale_x_y new_coords", _YOLO, embedding_layer="999999"),
}
"""Section -> its keys; the order is that of the message about an unknown section."""
