"""The temperature and calibration errors: torch's own optimiser and torchmetrics' error are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convscope.classifying.calibration import calibrate, fit_temperature
from convscope.classifying.classifier import Classifier
from convscope.classifying.metrics import calibration
from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.evaluation.scoring import calibrated, evaluate
from convscope.models.architecture import Architecture


def overconfident(n: int, temperature: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose probabilities are true once they are divided by ``temperature``."""
    random = torch.Generator().manual_seed(seed)
    true = 2 * torch.randn(n, 10, generator=random, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(true, 1), 1, generator=random)[:, 0]
    return true * temperature, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 10.0])
def test_the_temperature_is_found_again(temperature: float):
    logits, labels = overconfident(20_000, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_that_of_torchs_optimiser():
    logits, labels = overconfident(500, 3.0, seed=1)
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / scale.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(logits, labels) == pytest.approx(float(scale.detach().exp()), rel=1e-3)


def test_errors_are_those_of_the_metric_and_fall_where_the_network_was_too_sure():
    logits, labels = overconfident(3_000, 3.0, seed=2)
    temperature = fit_temperature(*overconfident(3_000, 3.0, seed=3))
    assert temperature is not None
    found = calibrate(logits, labels, temperature, 3_000)
    assert found.before.value == pytest.approx(calibration(logits, labels).ece, abs=1e-12)
    assert found.after.value == pytest.approx(calibration(logits / temperature, labels).ece, abs=1e-12)
    assert found.lowered.value == pytest.approx(found.before.value - found.after.value)
    assert 0 < found.lowered.low < found.lowered.value < found.lowered.high
    assert found.before.low < found.before.value < found.before.high
    assert torch.equal((logits / temperature).argmax(1), logits.argmax(1))


def test_the_calibration_error_is_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = overconfident(2_000, 2.0, seed=4)
    wanted = float(metrics.multiclass_calibration_error(torch.softmax(logits, 1), labels, 10, n_bins=15))
    assert calibration(logits, labels).ece == pytest.approx(wanted, abs=1e-6)


def test_the_temperature_is_fitted_on_the_validation_images():
    data = assemble(load_shapes(200))
    linear = nn.Linear(3 * 32 * 32, 6)
    network = nn.Sequential(nn.Flatten(), linear)
    flat = data.preprocess.normalise(torch.from_numpy(data.images).permute(0, 3, 1, 2)).flatten(1)
    train, index = data.parts["train"], data.parts["val"]
    with torch.no_grad():  # the nearest mean of a class
        for k in range(6):
            mean = flat[train][data.labels[train] == k].mean(0)
            linear.weight[k], linear.bias[k] = mean / 100, -mean @ mean / 200
        scores = network(flat[index])
    classifier = Classifier(network, data.class_names, data.preprocess, Architecture("x", 32))
    found = calibrated(classifier, evaluate(classifier, data, "test"))
    assert found is not None
    wanted = fit_temperature(scores, data.labels[index])
    assert (found.temperature, found.fitted_on) == (pytest.approx(wanted, rel=1e-3), len(index))
    assert calibrated(classifier, evaluate(classifier, data, "val")) is None


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_a_network_that_is_always_right_or_always_wrong_has_no_best_temperature(labels: list[int]):
    logits = np.array([[3.0, 1.0], [2.0, 1.0], [5.0, 1.0]])
    assert fit_temperature(logits, np.array(labels)) is None
