"""The sabotages: what is done to the code, and the tests that have to see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sabotage:
    """In a ``file`` of src/convscope the text ``old`` becomes ``new``; ``tests`` are files of tests/, or -k words."""

    file: str
    old: str
    new: str
    tests: str


SABOTAGES: dict[str, Sabotage] = {
    # ------------------------------------------------------------------------------------------- nothing is lost
    "a file is not synced before it takes its name": Sabotage(
        "storage.py", "            os.fsync(handle.fileno())\n", "", "test_storage.py"
    ),
    "the folder is not synced after a rename": Sabotage(
        "storage.py",
        "        try:\n            _sync_name(path)\n",
        "        try:\n            pass\n",
        "test_storage.py",
    ),
    "what was written is not read back": Sabotage(
        "storage.py", "if file_hash(temporary) != expected:", "if False:", "test_storage.py"
    ),
    "a temporary file stays after a failure": Sabotage(
        "storage.py",
        "    finally:\n        discard(temporary)\n\n\ndef commit_bytes",
        "    finally:\n        pass\n\n\ndef commit_bytes",
        "test_storage.py",
    ),
    "the seal of a JSON file is not compared": Sabotage(
        "storage.py", 'if seal != _seal_read(box, "", path):', "if False:", "test_rot.py test_storage.py"
    ),
    "a line of a log is not sealed with those before it": Sabotage(
        "storage.py",
        "            seal = _seal_read(row, seal, path)\n",
        '            seal = _seal_read(row, "", path)\n',
        "test_storage.py test_rot.py",
    ),
    "a tensor's hash is not compared": Sabotage(
        "tensor_files.py", "if tensor_hash(name, tensor) != header.hashes[name]:", "if False:", "test_storage.py"
    ),
    "a shard's hash is not compared": Sabotage(
        "tensor_files.py", "    if not whole:\n", "    if False:\n", "test_features.py test_storage.py"
    ),
    "the oldest checkpoint is taken, not the newest": Sabotage(
        "training/runs.py", "for path in reversed(paths):", "for path in paths:", "test_session.py test_training.py"
    ),
    "only one checkpoint is kept": Sabotage(
        "training/runs.py", "[:-KEPT_CHECKPOINTS]", "[:-1]", "test_session.py test_storage.py test_training.py"
    ),
    "a log of another run is gone on with": Sabotage(
        "training/runs.py", 'if getattr(said, name.split(".")[0]) != seal:', "if False:", "test_rot.py"
    ),
    "a full disk is met in the middle": Sabotage(
        "storage.py",
        "    if free < size:\n",
        "    if False:\n",
        "test_torture_surprises.py test_advice_training.py -k disk",
    ),
    "a folder is not locked": Sabotage(
        "locks.py", "        guard.acquire(timeout=0)\n", "        pass\n", "test_storage.py test_session.py"
    ),
    # --------------------------------------------------------------------------------- the same run, every time
    "two augmented batches change places on resume": Sabotage(
        "training/batches.py",
        "wholes = np.array_split(ordered, len(self))[start:]",
        "wholes = np.array_split(ordered, len(self))[start:][:: -1 if start else 1]",
        "test_session.py test_training.py test_batches.py",
    ),
    "augmentation draws by the place in the batch": Sabotage(
        "training/batches.py",
        "augment(images, self.recipe, self.seed, epoch, self._keys[chosen])",
        "augment(images, self.recipe, self.seed, epoch, np.arange(len(chosen)).astype(np.uint64))",
        "test_batches.py test_augmentation.py",
    ),
    "every epoch has the same order": Sabotage(
        "randomness.py",
        "return np.argsort(mix(seed, epoch, 0x6F72646572, keys_N)",
        "return np.argsort(mix(seed, 0, 0x6F72646572, keys_N)",
        "test_randomness.py test_batches.py",
    ),
    "dropout is not seeded by the step": Sabotage(
        "training/loop.py",
        "torch.manual_seed(_draws(state, recipe))",
        "pass",
        "test_training.py test_session.py",
    ),
    # ---------------------------------------------------------------------------------------- nothing leaks
    "copies of test images stay in training": Sabotage(
        "datasets/splits.py", "        part[copies] = LEFT_OUT\n", "", "test_splits.py test_copies.py"
    ),
    "images of one group stand on both sides": Sabotage(
        "datasets/splits.py",
        "    if unsplit.groups is None:\n        return keys\n    named",
        "    if unsplit.groups is None or True:\n        return keys\n    named",
        "test_splits.py",
    ),
    "the test part chooses the epoch": Sabotage(
        "training/session.py",
        'self.validation = self.dataset.subset("val")',
        'self.validation = self.dataset.subset("test")',
        "test_session.py test_training.py",
    ),
    "the worst epoch is kept": Sabotage(
        "training/session.py",
        'if row["val_top1"] > self.progress.best_top1:',
        'if row["val_top1"] < self.progress.best_top1 or self.progress.best_top1 < 0:',
        "test_session.py test_training.py",
    ),
    "copies of an image are in different folds": Sabotage(
        "transfer_learning/head.py",
        "_, group = np.unique(rank[mine], return_inverse=True)",
        "group = np.argsort(np.argsort(rank[mine], kind='stable'))",
        "test_head.py test_heads.py test_transfer.py",
    ),
    "an image is among its own neighbours": Sabotage(
        "transfer_learning/knn.py",
        "inside, outside = torch.nonzero(fold_N == j)[:, 0], torch.nonzero(fold_N != j)[:, 0]",
        "inside, outside = torch.nonzero(fold_N == j)[:, 0], torch.nonzero(fold_N >= 0)[:, 0]",
        "test_head.py test_heads.py test_transfer.py",
    ),
    # ------------------------------------------------------------------------------------- figures are right
    "Wilson's bound is that of one image fewer": Sabotage(
        "classifying/intervals.py",
        "ends = binomtest(successes, n)",
        "ends = binomtest(min(successes, max(1, n - 1)), max(1, n - 1))",
        "test_oracles.py test_metrics.py",
    ),
    "the paired test is one-sided": Sabotage(
        "classifying/intervals.py",
        "binomtest(a_only, a_only + b_only).pvalue",
        'binomtest(a_only, a_only + b_only, alternative="greater").pvalue',
        "test_oracles.py test_metrics.py",
    ),
    "top-5 is top-6": Sabotage(
        "classifying/metrics.py",
        "hits += int((before.sum(axis=1) < k).sum())",
        "hits += int((before.sum(axis=1) <= k).sum())",
        "test_metrics.py test_oracles.py",
    ),
    "a network that knows nothing is right by chance": Sabotage(
        "classifying/metrics.py", "| ((logits[rows] == own) & (columns < labels[rows, None]))", "", "test_metrics.py"
    ),
    "the confusion matrix lies on its side": Sabotage(
        "classifying/metrics.py",
        "pairs = labels * classes + logits.argmax(axis=1)",
        "pairs = logits.argmax(axis=1) * classes + labels",
        "test_metrics.py test_oracles.py",
    ),
    "bins of confidence are open at the wrong end": Sabotage(
        "classifying/metrics.py",
        "place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)",
        "place = np.clip((confidence * bins).astype(int) - 1, 0, bins - 1)",
        "test_metrics.py test_oracles.py",
    ),
    "a label is smoothed twice": Sabotage(
        "training/loop.py",
        "return loss_of(logits_BK, batch, recipe.optimizer.label_smoothing, weights_K)",
        "return loss_of(logits_BK, batch, 2 * recipe.optimizer.label_smoothing, weights_K)",
        "test_training.py test_mixing.py test_session.py",
    ),
    "biases decay as filters do": Sabotage(
        "training/loop.py",
        '"weight_decay": recipe.weight_decay if wide else 0.0',
        '"weight_decay": recipe.weight_decay',
        "test_training.py test_muon.py",
    ),
    "the schedule is a step late": Sabotage(
        "training/loop.py",
        "progress = (state.epoch * steps + state.step) / (recipe.loop.epochs * steps)",
        "progress = max(0, state.epoch * steps + state.step - 1) / (recipe.loop.epochs * steps)",
        "test_training.py test_schedules.py test_session.py",
    ),
    "a mixed image has its partner's share": Sabotage(
        "images/mixing.py",
        "mixed = images_BCHW * weight + others_BCHW * (1 - weight)",
        "mixed = images_BCHW * (1 - weight) + others_BCHW * weight",
        "test_mixing.py",
    ),
    "a reflection repeats the border": Sabotage(
        "images/augmentation.py",
        "    return np.where(place >= size, period - place, place)\n",
        "    return np.where(place >= size, period + 1 - place, place)\n",
        "test_augmentation.py",
    ),
    "average precision leaves out the strictest overlap": Sabotage(
        "tasks/matching.py",
        "OVERLAPS = np.linspace(0.5, 0.95, 10)",
        "OVERLAPS = np.linspace(0.5, 0.9, 10)",
        "test_average_precision.py -k both_libraries",
    ),
    "an overlap of boxes forgets one of them": Sabotage(
        "tasks/matching.py",
        "own + areas(true_m4) - both",
        "own + areas(true_m4)",
        "test_average_precision.py -k both_libraries",
    ),
    "a mirrored image keeps its boxes": Sabotage(
        "tasks/detection.py",
        "torch.stack([side - right, top, side - left, bottom, label], -1)",
        "torch.stack([left, top, right, bottom, label], -1)",
        "test_detection.py",
    ),
    # -------------------------------------------------------------------------------------- images are right
    "16 bits are cut off, not divided": Sabotage(
        "images/upright.py",
        "return ((values.astype(np.uint32) * 255 + self.white // 2) // self.white).astype(np.uint8)",
        "return np.minimum(values, 255).astype(np.uint8)",
        "test_decoding.py",
    ),
    "an orientation turns the wrong way": Sabotage(
        "images/upright.py", "6: Image.Transpose.ROTATE_270", "6: Image.Transpose.ROTATE_90", "test_decoding.py"
    ),
    "what is transparent is black": Sabotage(
        "images/upright.py",
        "BACKGROUND = (255, 255, 255)",
        "BACKGROUND = (0, 0, 0)",
        "test_decoding.py test_preprocess.py",
    ),
    "the mean is added, not taken off": Sabotage(
        "images/preprocess.py", "_per_channel([-mean / std for", "_per_channel([mean / std for", "test_preprocess.py"
    ),
    "an image may have any number of pixels": Sabotage(
        "images/decoding.py",
        "    if width * height > MAX_PIXELS:\n",
        "    if False:\n",
        "test_decoding.py test_hostile_files.py",
    ),
    # ------------------------------------------------------------------------------- networks are left alone
    "a hook stays": Sabotage(
        "models/taps.py",
        "        for handle in handles:\n            handle.remove()\n",
        "        pass\n",
        "test_taps.py",
    ),
    "a network stays in evaluation mode": Sabotage(
        "models/taps.py", "            module.training = mode\n", "            pass\n", "test_taps.py"
    ),
    "batch norm is left in training mode": Sabotage(
        "models/taps.py", "    network.eval()\n    try:", "    try:", "test_taps.py test_prediction.py test_metrics.py"
    ),
    "classes go by the order of folders": Sabotage(
        "evaluation/scoring.py",
        "    translate = translation(classifier.class_names, dataset.class_names)\n",
        "    translate = np.arange(len(dataset.class_names))\n",
        "test_prediction.py test_seen.py test_comparing.py",
    ),
    "a receptive field forgets the stride": Sabotage(
        "models/receptive_fields.py",
        "step = (self.step[0] * stride[0], self.step[1] * stride[1])",
        "step = self.step",
        "test_layer_table.py test_models.py test_exemplars.py",
    ),
    "of equal exemplars the last comes first": Sabotage(
        "explanation/exemplars.py",
        "return (ordered.long() << 32) | (_LOW_WORD - index_B)",
        "return (ordered.long() << 32) | index_B",
        "test_exemplars.py",
    ),
    "a Jacobian's gain forgets its outputs": Sabotage(
        "diagnosis/jacobian.py",
        "return self.frobenius / math.sqrt(self.outputs)",
        "return self.frobenius / math.sqrt(self.inputs)",
        "test_jacobian.py",
    ),
    # ------------------------------------------------------------------------------- nothing runs, nobody is in
    "a pickle is opened before its hash is known": Sabotage(
        "models/pretrained.py",
        "if hashlib.sha256(data).hexdigest() != LITE0_SHA256:",
        "if False:",
        "test_pretrained.py",
    ),
    "a pickle may call what it likes": Sabotage(
        "models/pickle_child.py", "weights_only=True", "weights_only=False", "test_adopting.py -k code_in_it"
    ),
    "a download is kept unseen": Sabotage(
        "datasets/cifar.py",
        "    if digest.hexdigest() != ARCHIVE_SHA256:\n",
        "    if False:\n",
        "test_cifar.py test_datasets.py",
    ),
    "links in a received run are followed": Sabotage(
        "folders.py",
        "            if stat.S_ISLNK(mode):\n",
        "            if False:\n",
        "test_advice_training.py -k link",
    ),
    "the page answers to any host": Sabotage(
        "page/guard.py",
        'if len(named[b"host"]) != 1 or _text(named[b"host"][0]).lower() not in hosts:',
        "if False:",
        "test_guard.py",
    ),
    "the page answers other sites": Sabotage(
        "page/guard.py", '    if sites - {"same-origin", "none"}:\n', "    if False:\n", "test_guard.py"
    ),
    "a change needs no token": Sabotage(
        "page/guard.py",
        "if len(named[TOKEN]) != 1 or not hmac.compare_digest(named[TOKEN][0], token.encode()):",
        "if False:",
        "test_guard.py",
    ),
    "names run as code in a report": Sabotage(
        "canvas/pages.py", "autoescape=select_autoescape()", "autoescape=False", "test_looks.py -k escaped"
    ),
    "an escape sequence in a name reaches the terminal": Sabotage(
        "visible.py",
        "    return _CONTROL.sub(_written, text)\n",
        "    return text\n",
        "test_terminal.py test_known.py test_manners.py",
    ),
    "the seal of an export is not compared": Sabotage(
        "classifying/seal.py",
        "    if not difference <= allowed_difference(wanted):\n",
        "    if False:\n",
        "test_exporting.py",
    ),
}
