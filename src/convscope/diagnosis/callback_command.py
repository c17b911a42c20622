"""The same watch for loops that others write: callbacks for Hugging Face's Trainer, Lightning, and Keras on torch.

    callback = convscope.lightning_callback()
    Trainer(callbacks=[callback]).fit(module, loader)
    print(callback.diagnose("digits").sentence())

Each library is imported when its callback is asked for, and is none of convscope's own requirements.
"""

from __future__ import annotations

from contextlib import ExitStack
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from ..errors import UsageError
from ..given import takes_what_is_meant
from ..training.watched import Watched
from ..training.watching import EVERY, Watch, check_every, watching
from .command import diagnose
from .report import DiagnoseReport


class Watching:
    """What each callback does: it keeps the network as it was before the first step, and watches its training.

    ``diagnose`` says afterwards why it does or does not learn; ``watched`` is all that was seen.
    """

    def __init__(self, every: int = EVERY) -> None:
        super().__init__()
        check_every(every)
        self.every = every
        self.network: nn.Module | None = None
        self.start: nn.Module | None = None
        self.watch: Watch | None = None
        self._stack = ExitStack()

    def begin(self, network: nn.Module) -> None:
        """The training of this network begins; one before it that broke off is over."""
        self.end()
        self.network, self.start = network, deepcopy(network)
        self.watch = self._stack.enter_context(watching(network, self.every))

    def end(self) -> None:
        """The training is over: every hook is taken away."""
        self._stack.close()

    def watched(self) -> Watched:
        """All that was seen; UsageError before a training."""
        if self.watch is None:
            raise UsageError("nothing was trained with this callback yet.")
        return self.watch.watched()

    def diagnose(self, data: Any, **options: Any) -> DiagnoseReport:
        """Say in words why it does or does not learn; ``data`` and options are those of ``convscope.diagnose``."""
        seen = self.watched()
        assert self.network is not None
        return diagnose(self.network, data, start=self.start, watched=seen, **options)


@takes_what_is_meant
def trainer_callback(every: int = EVERY) -> Any:
    """A callback for ``transformers.Trainer(callbacks=[...])``. It tells losses when they are logged: with
    ``logging_steps=1`` in its arguments each step's own."""
    from transformers import TrainerCallback

    class WatchTrainer(Watching, TrainerCallback):
        """Watches a Trainer."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            self.begin(model)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            assert self.watch is not None
            self.watch.step()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if self.watch is not None and logs and "loss" in logs:
                self.watch.tell(float(logs["loss"]), logs.get("learning_rate"))

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.end()

    return WatchTrainer(every)


@takes_what_is_meant
def lightning_callback(every: int = EVERY, network: str | None = None) -> Any:
    """A callback for Lightning's ``Trainer(callbacks=[...])``. ``network`` names the attribute of the module that is
    called with images; without it the module itself, or, where that has no ``forward``, its only submodule."""
    from lightning import Callback, LightningModule

    class WatchLightning(Watching, Callback):
        """Watches a LightningModule."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            children = [child for child in pl_module.children() if next(child.parameters(), None) is not None]
            if network is not None:
                self.begin(getattr(pl_module, network))
            elif type(pl_module).forward is LightningModule.forward and len(children) == 1:
                self.begin(children[0])
            else:
                self.begin(pl_module)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert self.watch is not None
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None
            self.watch.step(float(loss) if isinstance(loss, Tensor) else None, rate)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self.end()

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            self.end()

    return WatchLightning(every)


@takes_what_is_meant
def keras_callback(every: int = EVERY) -> Any:
    """A callback for Keras' ``model.fit(callbacks=[...])`` where its backend is torch, else UsageError."""
    other = "Keras computes with another backend: set KERAS_BACKEND=torch before it is imported."
    try:
        import keras as library
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise
        raise UsageError(other) from None  # the backend that it takes where none is named is not installed
    if library.backend.backend() != "torch":
        raise UsageError(other)

    class WatchKeras(Watching, library.callbacks.Callback):
        """Watches a Keras model; the losses that Keras tells are means since an epoch began, and are taken apart."""

        def on_train_begin(self, logs: Any = None) -> None:
            model: Any = self.model
            self.begin(model)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._sum = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert self.watch is not None
            loss = None
            if logs and "loss" in logs:
                whole = float(logs["loss"]) * (batch + 1)
                loss, self._sum = whole - self._sum, whole
            model: Any = self.model
            self.watch.step(loss, float(model.optimizer.learning_rate))

        def on_train_end(self, logs: Any = None) -> None:
            self.end()

    return WatchKeras(every)
