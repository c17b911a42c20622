"""The lecture's claims as controlled experiments, each with a verdict.

``CLAIMS`` is the table; adding a claim is one file and one line. ``run_claim`` trains its arms and judges.
"""

from __future__ import annotations

from .claim import Claim
from .claims import (
    alexnet_75,
    augmentation_gap,
    augmentation_robust,
    augmentation_slows,
    augmented_head,
    batch_norm_speed,
    depth_plain,
    depth_residual,
    dropout_ensemble,
    dropout_gap,
    dropout_spreads,
    features_memory,
    fifty_layers,
    general_to_specific,
    global_pooling,
    identity_layers,
    location,
    maximization_costly,
    nearer_images,
    pretrained_beats_scratch,
    resnet_vgg,
    two_3x3,
    vanishing_gradients,
    vgg_beats_alexnet,
    vgg_overfits,
)

CLAIMS: dict[str, Claim] = {
    "location": location.CLAIM,
    "alexnet-75": alexnet_75.CLAIM,
    "batch-norm-speed": batch_norm_speed.CLAIM,
    "two-3x3": two_3x3.CLAIM,
    "vgg-beats-alexnet": vgg_beats_alexnet.CLAIM,
    "vgg-overfits": vgg_overfits.CLAIM,
    "dropout-gap": dropout_gap.CLAIM,
    "dropout-spreads": dropout_spreads.CLAIM,
    "dropout-ensemble": dropout_ensemble.CLAIM,
    "augmentation-gap": augmentation_gap.CLAIM,
    "augmentation-slows": augmentation_slows.CLAIM,
    "augmentation-robust": augmentation_robust.CLAIM,
    "identity-layers": identity_layers.CLAIM,
    "depth-plain": depth_plain.CLAIM,
    "depth-residual": depth_residual.CLAIM,
    "vanishing-gradients": vanishing_gradients.CLAIM,
    "global-pooling": global_pooling.CLAIM,
    "resnet-vgg": resnet_vgg.CLAIM,
    "general-to-specific": general_to_specific.CLAIM,
    "pretrained-beats-scratch": pretrained_beats_scratch.CLAIM,
    "maximization-costly": maximization_costly.CLAIM,
    "features-memory": features_memory.CLAIM,
    "augmented-head": augmented_head.CLAIM,
    "nearer-images": nearer_images.CLAIM,
    "fifty-layers": fifty_layers.CLAIM,
}
