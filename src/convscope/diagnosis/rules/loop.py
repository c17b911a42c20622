"""Faults of the loop: what the optimizer holds, gradients that stay, modes, weights left out, a schedule that ends."""

from __future__ import annotations

from .rule import ENOUGH, NOT_LEARNING, VerdictRule, above, below

_OPTIMIZER = "optimizer = torch.optim.SGD(network.parameters(), lr=0.1)  # after the network is made, and of that one"
_TRAIN = "network.train()  # before each epoch, and after each validation"
_MODE = "print({name: m.training for name, m in network.named_modules()})  # in the loop: all should be True"

RULES = (
    VerdictRule(
        fault="other-parameters",
        conditions=(
            above("still", 0.5, "to the last bit no weight is another than before the first step"),
            above("gradients_came", 0.5, "gradients came to the weights, so it is not the loss", or_unknown=True),
        ),
        says="no weight has moved by a bit{names[within]}{names[came]}: the optimizer holds other parameters "
        "than "
        "this network's, never steps, or has a rate of 0.",
        then="make the optimizer from network.parameters() of the very network that is trained, after it was made, "
        "copied "
        "or moved.",
        seen_by="the weights, before the first step and now",
        where="the optimizer",
        tries="after one step, a weight should not be equal to what it was",
        fix=_OPTIMIZER,
        set_by=("optimizer-of-another",),
        tested_by=("optimizer-of-another-network",),
    ),
    VerdictRule(
        fault="not-zeroed",
        conditions=(above("left_over", 0.5, "sound loops had none, those that add gradients up on purpose included"),),
        says="in {left_over:.0%} of the updates the weights had a gradient before each backward pass: gradients "
        "of all steps before are added up.",
        then="call optimizer.zero_grad() once for each update, before its first backward pass.",
        seen_by="gradients as others are added to them",
        where="the loop, before loss.backward()",
        tries="before the first backward pass of an update every gradient should be None or 0",
        fix="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
        set_by=("not-zeroed",),
        tested_by=("not-zeroed-sgd", "not-zeroed-adam"),
    ),
    VerdictRule(
        fault="norm-mode",
        conditions=(
            above("norms_frozen", 0.5, "in training every batch norm uses its batch, unless it is kept on purpose"),
            above("norms_unset", 0.5, "and nobody keeps statistics of nothing"),
        ),
        says="{names[norms_frozen]} used its running statistics while it trained, and they are of no images yet: the "
        "network was in evaluation mode.",
        then="call network.train() before each epoch, and after each validation.",
        seen_by="the mode of each norm at each look",
        where="{names[norms_frozen]}",
        tries="the mode of all modules should be True while it trains",
        fix=f"{_TRAIN}\n{_MODE}",
        set_by=("norm-mode",),
        tested_by=("norm-mode", "eval-mode"),
    ),
    VerdictRule(
        fault="norm-mode",
        conditions=(above("norms_frozen", 0.5, "in training every batch norm uses its batch"), NOT_LEARNING, ENOUGH),
        says="{names[norms_frozen]} used its running statistics while it trained: the network was in evaluation mode.",
        then="call network.train() before each epoch, and after each validation.",
        seen_by="the mode of each norm at each look",
        where="{names[norms_frozen]}",
        tries="the mode of all modules should be True while it trains",
        fix=f"{_TRAIN}\n{_MODE}",
        set_by=("norm-mode",),
        tested_by=("norm-mode", "eval-mode"),
    ),
    VerdictRule(
        fault="frozen",
        conditions=(
            above("unlearned", 0, "weights to which a gradient comes, and that move by no bit, were left out"),
        ),
        says="{names[unlearned]} {names[how]}: not a bit of it moved in the training.",
        then="give it to the optimizer with requires_grad=True, unless you left it out on purpose.",
        seen_by="the weights, before the first step and now",
        where="{names[unlearned]}",
        tries="after one step, each weight should not be equal to what it was",
        fix=f"network.requires_grad_(True)\n{_OPTIMIZER}",
        set_by=("frozen",),
        tested_by=("frozen", "layer-frozen-by-mistake", "head-left-out"),
    ),
    VerdictRule(
        fault="norm-batch",
        conditions=(
            below("batch_size", 8, "the mean of under 8 images is a poor estimate"),
            above("mode_gap", 0.25, "sound trainings had under 0.06"),
        ),
        says="with its running statistics the loss is {mode_gap:.2f} log K above that with a batch's own: batches of "
        "{batch_size:.0f} are too small for batch norm.",
        then="use a --batch-size of 16 or more.",
        seen_by="the loss with running statistics beside that with a batch's own",
        where="its batch norms",
        tries="the loss of training images in evaluation mode should be near that in training mode",
        fix="loader = DataLoader(dataset, batch_size=32, shuffle=True)",
        set_by=("batches-of-2",),
        tested_by=("norm-batch",),
    ),
    VerdictRule(
        fault="norm-mode",
        conditions=(above("mode_gap", 0.5, "sound trainings had under 0.06; so much is no lag of an average"),),
        says="with its running statistics the loss is {mode_gap:.2f} log K above that with a batch's own: they are not "
        "those of its data.",
        then="train with network.train(), evaluate with network.eval(), and let the statistics settle for 100 batches.",
        seen_by="the loss with running statistics beside that with a batch's own",
        where="its batch norms",
        tries="the loss of training images in evaluation mode should be near that in training mode",
        fix=f"{_TRAIN}\nnetwork.eval()  # for each evaluation",
        set_by=("norm-mode",),
        tested_by=("norm-mode",),
    ),
    VerdictRule(
        fault="schedule-ended",
        conditions=(above("idle", 0.2, "86 sound trainings stood still for 0.5 % of their steps at most"),),
        says="the schedule ended at step {idle_from:.0f} of {steps:.0f}: after that {names[idle]}, and the loss stayed "
        "at "
        "{last_loss:.2f} of that of guessing.",
        then="give the schedule as many steps as the training has; step it once a batch or once an epoch, as it was "
        "made.",
        seen_by="the weights from step to step, and the rates that were told",
        where="step {idle_from:.0f}",
        tries="print the rate of the optimizer at the first, the middle and the last step",
        fix="schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))",
        set_by=("rate-zero",),
        tested_by=("rate-zero-from-60",),
    ),
)
