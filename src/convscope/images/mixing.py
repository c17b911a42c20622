"""Mixed images: mixup (Zhang et al. 2018, arXiv:1710.09412) and cutmix (Yun et al. 2019, arXiv:1905.04899).

Stateless like augmentation: an image's partner, share and place are functions of (seed, epoch, its key), whatever
batch it stands in. The partner is any image of the training part, not one of the same batch.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import betaincinv

from ..randomness import mix as words_of
from ..randomness import uniforms
from ..recipes import Labels

_PARTNER = 0x706172746E6572
_SLOTS_SEED = 0x6D6978  # keeps these numbers apart from augmentation's
COIN, SHARE, CENTRE_X, CENTRE_Y = range(4)


def is_on(recipe: Labels) -> bool:
    """Tell whether any image is mixed."""
    return recipe.mixup > 0 or recipe.cutmix > 0


def partners(seed: int, epoch: int, keys_B: np.ndarray, count: int) -> np.ndarray:
    """The partner of each image: int64 (B,), places in a list of ``count`` images."""
    return (words_of(seed, epoch, _PARTNER, keys_B) % np.uint64(count)).astype(np.int64)


def mix(  # noqa: PLR0913 - as augment, with the partners
    images_BCHW: torch.Tensor, others_BCHW: torch.Tensor, recipe: Labels, seed: int, epoch: int, keys_B: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix float images with their partners: (B, 3, H, W), and float32 (B,), the share of an image's own label.

    With both kinds on, each image has one of them by the toss of a coin. A share is drawn from Beta(alpha, alpha);
    for cutmix it is that of the area left, after the rectangle was cut at the border.
    """
    u = uniforms(seed ^ _SLOTS_SEED, epoch, keys_B, 4)
    cut = np.full(len(u), recipe.cutmix > 0)
    if recipe.mixup and recipe.cutmix:
        cut = u[:, COIN] < 0.5
    alpha = np.where(cut, recipe.cutmix or 1.0, recipe.mixup or 1.0)
    share = betaincinv(alpha, alpha, u[:, SHARE])
    height, width = images_BCHW.shape[2:]
    down, across = (_cut(u[:, centre], share, side) for centre, side in ((CENTRE_Y, height), (CENTRE_X, width)))
    weight_BHW = np.where(down[:, :, None] & across[:, None, :], 0.0, 1.0)
    weight_BHW = np.where(cut[:, None, None], weight_BHW, share[:, None, None])
    weight = torch.from_numpy(weight_BHW.astype(np.float32))[:, None].to(images_BCHW.device)
    own = torch.from_numpy(weight_BHW.mean((1, 2)).astype(np.float32)).to(images_BCHW.device)
    mixed = images_BCHW * weight + others_BCHW * (1 - weight)
    return mixed.contiguous(memory_format=torch.channels_last), own


def _cut(centre_B: np.ndarray, share_B: np.ndarray, side: int) -> np.ndarray:
    """Tell which rows, or columns, a rectangle of 1 - share of the area covers: bool (B, side)."""
    half = np.sqrt(1 - share_B) * side / 2
    place = np.arange(side) + 0.5
    return np.abs(place - centre_B[:, None] * side) < half[:, None]
