"""The callbacks in the loops of Trainer, Lightning and Keras themselves: watched, judged, and no hook left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convscope
from convscope.errors import UsageError
from convscope.models.taps import count_hooks

os.environ.setdefault("KERAS_BACKEND", "torch")
STEPS, BATCH = 24, 16


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10))


def data() -> tuple[Tensor, Tensor]:
    found = convscope.load_dataset("digits", image_size=16)
    index = found.subset("train", STEPS * BATCH)
    images = torch.from_numpy(np.asarray(found.images[index])).permute(0, 3, 1, 2).float() / 128 - 1
    return images, torch.from_numpy(found.labels[index])


def check(callback: Any, runs: Path, rates: bool = True) -> None:
    """It saw each step with its loss, says nothing of a sound start, and left no hook."""
    seen = callback.watched()
    assert len(seen.losses) == STEPS
    assert np.isfinite(seen.losses).all()
    assert np.nanmax(seen.signs["moved"]) == 1
    assert np.isfinite(seen.rates).all() == rates
    assert count_hooks(callback.network) == 0
    before = [p.detach().clone() for p in callback.start.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(before, callback.network.parameters(), strict=True))
    assert callback.diagnose("digits", runs=runs).verdict.fault not in ("loss-cut", "other-parameters", "not-zeroed")


@pytest.mark.filterwarnings("ignore")
def test_lightning(tmp_path: Path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, number: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    callback = convscope.lightning_callback()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), BATCH)
    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Module(), loader)
    check(callback, tmp_path)
    assert callback.watched().signs["arrived"].min() == 1


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_breaks_off_leaves_no_hook(tmp_path: Path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.breaks = network(), True

        def training_step(self, batch: Any, number: int) -> Tensor:
            if self.breaks and number == 3:
                raise RuntimeError("no memory is left")
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    callback, module = convscope.lightning_callback(), Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), BATCH)

    def fit() -> None:
        lightning.Trainer(
            max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False, accelerator="cpu",
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        ).fit(module, loader)  # fmt: skip

    with pytest.raises(RuntimeError, match="no memory is left"):
        fit()
    assert count_hooks(module) == 0
    module.breaks = False
    fit()
    check(callback, tmp_path)


def test_a_training_that_nobody_ended_ends_where_the_next_begins():
    """Not every library says that its training broke off."""
    pytest.importorskip("lightning")
    callback, first, second = convscope.lightning_callback(), network(), network()
    callback.begin(first)
    callback.begin(second)
    assert count_hooks(first) == 0
    callback.end()
    assert count_hooks(second) == 0


@pytest.mark.filterwarnings("ignore")
def test_hugging_faces_trainer(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            logits = self.net(pixel_values)
            return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}

    images, labels = data()
    rows = [{"pixel_values": i, "labels": n} for i, n in zip(images, labels, strict=True)]
    callback = convscope.trainer_callback()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=BATCH, num_train_epochs=1, logging_steps=1,
        learning_rate=1e-3, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(Model(), arguments, train_dataset=rows, callbacks=[callback]).train()
    check(callback, tmp_path)
    assert callback.watched().signs["arrived"].min() == 1


@pytest.mark.filterwarnings("ignore")
def test_keras_on_torch(tmp_path: Path):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        with pytest.raises(UsageError, match="KERAS_BACKEND=torch"):
            convscope.keras_callback()
        pytest.skip("Keras was imported with another backend")
    images, labels = data()
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile(
        keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    callback = convscope.keras_callback()
    model(images[:2].numpy())
    history = model.fit(images.numpy(), labels.numpy(), BATCH, 1, callbacks=[callback], verbose=0)
    seen = callback.watched()
    assert len(seen.losses) == STEPS
    assert np.mean(seen.losses) == pytest.approx(history.history["loss"][0], rel=1e-4)
    assert np.nanmax(seen.signs["moved"]) == 1


@pytest.mark.filterwarnings("ignore")
def test_probabilities_of_keras_with_their_own_loss_are_no_mistake(tmp_path: Path):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras was imported with another backend")
    keras.utils.set_random_seed(0)
    images, labels = data()
    layers = [keras.layers.Input(tuple(images.shape[1:])), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
    model.compile(keras.optimizers.Adam(0.003), loss, run_eagerly=True)
    callback = convscope.keras_callback()
    model.fit(images.numpy(), labels.numpy(), BATCH, 4, callbacks=[callback], verbose=0)
    looked_at = convscope.load_dataset("digits", image_size=16)
    found = callback.diagnose(looked_at, runs=tmp_path, images=1).verdict
    assert found.fault == "healthy"
    assert found.evidence.crossed > 0.3


def test_before_a_training_there_is_nothing_to_tell():
    pytest.importorskip("lightning")
    with pytest.raises(UsageError, match="nothing was trained"):
        convscope.lightning_callback().diagnose("digits")
