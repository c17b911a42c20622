"""Mixed images: stateless, right by area and share, and taught with both labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from convscope.classifying.metrics import top_k
from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.shapes import load_shapes
from convscope.errors import DataError, UsageError
from convscope.images.mixing import is_on, mix, partners
from convscope.recipes import AUGMENTS, Labels, Recipe
from convscope.training.batches import Batch, Batches
from convscope.training.loop import loss_of

KEYS = np.arange(3000, dtype=np.uint64) * np.uint64(2654435761)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return assemble(load_shapes(120))


def batches(data: Dataset, size: int, labels: Labels) -> Batches:
    return Batches(data, data.subset("train"), size, 0, AUGMENTS["light"], CPU, labels)


@pytest.mark.parametrize("labels", [Labels(mixup=0.4), Labels(cutmix=1.0), Labels(mixup=0.2, cutmix=1.0)])
def test_an_image_is_mixed_alike_in_any_batch(data: Dataset, labels: Labels) -> None:
    seen: dict[int, list[tuple[torch.Tensor, int, float]]] = {}
    for size in (8, 31):
        for batch in batches(data, size, labels).epoch(3):
            assert batch.others is not None
            assert batch.share is not None
            for row, number in enumerate(batch.index):
                found = (batch.images[row], int(batch.others[row]), float(batch.share[row]))
                seen.setdefault(int(number), []).append(found)
    for (image, label, share), (again, same_label, same_share) in seen.values():
        assert torch.equal(image, again)
        assert (label, share) == (same_label, same_share)


def test_partners_are_spread_over_all_images_and_change_with_the_epoch() -> None:
    chosen = partners(0, 0, KEYS, 100)
    assert np.bincount(chosen, minlength=100).min() > 10
    assert (partners(0, 1, KEYS, 100) != chosen).mean() > 0.9


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_share_of_mixup_is_beta_and_the_image_is_the_weighted_sum(alpha: float) -> None:
    ones, zeros = torch.ones(len(KEYS), 3, 2, 2), torch.zeros(len(KEYS), 3, 2, 2)
    mixed, share = mix(ones, zeros, Labels(mixup=alpha), 0, 0, KEYS)
    torch.testing.assert_close(mixed, share[:, None, None, None].expand_as(mixed))
    assert stats.kstest(share.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_copies_a_rectangle_and_its_share_is_the_area_left() -> None:
    own, other = torch.zeros(500, 3, 16, 12), torch.ones(500, 3, 16, 12)
    mixed, share = mix(own, other, Labels(cutmix=1.0), 0, 0, KEYS[:500])
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(1 - mixed.mean((1, 2, 3)), share)
    for image in mixed[:, 0]:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        if len(rows):
            assert image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "one whole rectangle"
    assert share.min() < 0.3
    assert share.max() > 0.9


def test_with_both_on_each_image_has_one_of_them() -> None:
    mixed, share = mix(torch.zeros(600, 1, 8, 8), torch.ones(600, 1, 8, 8), Labels(1.0, 1.0), 0, 0, KEYS[:600])
    flat = (mixed.amax((1, 2, 3)) - mixed.amin((1, 2, 3))) == 0
    between = (share > 0.1) & (share < 0.9)
    assert 0.4 < (flat & between).sum() / between.sum() < 0.6


def test_the_loss_is_that_of_both_labels_by_their_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels, others = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 0])
    share = torch.rand(6, generator=generator, dtype=torch.float64)
    batch = Batch(torch.zeros(6, 3, 1, 1), labels, np.arange(6), others, share)
    soft = share[:, None] * F.one_hot(labels, 4) + (1 - share)[:, None] * F.one_hot(others, 4)
    torch.testing.assert_close(loss_of(logits, batch, 0.0), F.cross_entropy(logits, soft))
    smoothed = F.cross_entropy(logits, 0.9 * soft + 0.1 / 4)
    torch.testing.assert_close(loss_of(logits, batch, 0.1), smoothed)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    by_hand = sum(
        s * weights[a] * -logits[i].log_softmax(0)[a] + (1 - s) * weights[b] * -logits[i].log_softmax(0)[b]
        for i, (s, a, b) in enumerate(zip(share, labels, others, strict=True))
    ) / sum(s * weights[a] + (1 - s) * weights[b] for s, a, b in zip(share, labels, others, strict=True))
    torch.testing.assert_close(loss_of(logits, batch, 0.0, weights), by_hand)
    assert batch.main_labels.tolist() == [
        int(a if s >= 0.5 else b) for s, a, b in zip(share, labels, others, strict=True)
    ]


def test_unmixed_batches_stay_as_they_were(data: Dataset) -> None:
    assert not is_on(Labels())
    batch = next(batches(data, 16, Labels()).epoch(0))
    assert batch.others is None
    assert batch.main_labels is batch.labels


def test_weights_of_classes_give_each_the_same_say(data: Dataset) -> None:
    rare = data.subset("train")
    keep = (data.labels[rare] != 0) | (np.arange(len(rare)) % 5 == 0)
    some = Batches(data, rare[keep], 16, 0, AUGMENTS["none"], CPU)
    labels, weights = data.labels[some.index], some.class_weights.numpy()
    totals = [weights[label] * (labels == label).sum() for label in range(len(data.class_names))]
    np.testing.assert_allclose(totals, len(labels) / len(data.class_names), rtol=1e-5)
    assert weights[labels].mean() == pytest.approx(1.0, abs=1e-5)
    without = Batches(data, rare[data.labels[rare] != 0], 16, 0, AUGMENTS["none"], CPU)
    assert without.class_weights[0] == 0, "a class without images has no say"


def test_a_metric_of_mixed_labels_is_refused() -> None:
    shares = torch.full((4, 10), 0.1)
    with pytest.raises(DataError, match=r"labels of shape \(4, 10\) are shares of classes.*one class an image, \(4,\)"):
        top_k(torch.rand(4, 10), shares, 1)


def test_alphas_below_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="`mixup` -1 does not do"):
        Recipe().with_options({"mixup": -1})
