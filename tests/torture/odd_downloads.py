"""Downloads from a server that misbehaves: each is refused in a sentence, leaves nothing, and the next one works."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from torture.bad_server import GOOD, BadServer
from torture.odd_child import Ended, OddMachine
from torture.odd_ground import sentence_wrong

NETWORK = "test_resnet.r160_in1k"  # timm's smallest
WHOLE = ("a length too long", "a length without end", "a length that is no number", "longer")  # may end in the file
# How long and how much the Hub's own library waits is not ours to say: 10 s without a byte, five times.
NOT_OURS = {("weights", "endless"), ("weights", "dripping"), ("weights", "silence")}
LIMIT = 60.0  # seconds that a download may take that comes to nothing


@functools.cache
def small_archive() -> bytes:
    """CIFAR-10's archive with 40 images a file."""
    from convscope.datasets.cifar import FOLDER, TRAIN_FILES

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for seed, name in enumerate((*TRAIN_FILES, "test_batch")):
            rows = np.random.default_rng(seed).integers(0, 256, (40, 3072), np.uint8)
            box = {b"data": rows, b"labels": [i % 10 for i in range(40)]}
            data = pickle.dumps(box, protocol=2)
            about = tarfile.TarInfo(f"{FOLDER}/{name}")
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return file.getvalue()


@functools.cache
def small_weights() -> bytes:
    """Weights of NETWORK, as timm's repository has them."""
    import timm
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    network = timm.create_model(NETWORK.split(".")[0], pretrained=False)
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})


KINDS = {"archive": small_archive, "weights": small_weights}


def fetched(machine: OddMachine, server: BadServer, folder: Path, kind: str, word: str) -> Ended:
    """A command that needs what the server has."""
    archive = small_archive()
    asked = {"url": f"{server.address}/archive.tar.gz", "sha256": hashlib.sha256(archive).hexdigest()}
    asked |= {"DOWNLOAD_TIMEOUT": 1, "ARCHIVE_BYTES": len(archive), "PATIENCE": 1.0}
    words = {
        "doctor": ["doctor", "cifar10", "--no-labels"],
        "train": "train cifar10 --model resnet20 --width 4 --epochs 1 --name new".split(),
        "predict": ["predict", f"pretrained:{NETWORK}", "image.png"],
        "export": ["export", f"pretrained:{NETWORK}", "--format", "safetensors"],
    }[word]
    if kind == "archive":
        return machine.one(folder, words, archive_at=asked)
    return machine.one(folder, words, hub_cache="hub")


def tried(  # noqa: PLR0913 - what an attempt is made of
    machine: OddMachine, server: BadServer, folder: Path, asked: tuple[str, str], way: str, seed: int
) -> str:
    """Download in a bad way, then in a good one; returns what is wrong, or ""."""
    from PIL import Image

    kind, word = asked
    Image.new("RGB", (32, 32), (seed % 256, 9, 9)).save(folder / "image.png")
    data = KINDS[kind]()
    server.set(data, way, seed)
    ended = fetched(machine, server, folder, kind, word)
    if way in GOOD or (ended.code == 0 and way in WHOLE):
        return "" if ended.code == 0 else f"a good download fails: {ended.err.strip()[-300:]}"
    wrong = sentence_wrong(ended, {69})
    kept = [path for path in (*folder.glob("cache/data/*"), *folder.glob("hub/*/blobs/*")) if _is_kept(path, data)]
    if not wrong and ended.seconds > LIMIT:
        wrong = f"it took {ended.seconds:.0f} s to give up"
    if not wrong and kept:
        wrong = f"{kept[0].relative_to(folder)} was kept"
    if not wrong and kind == "archive" and server.sent > len(data) + (16 << 20):
        wrong = f"it took {server.sent:,} bytes of a file of {len(data):,}"
    if wrong:
        return wrong
    server.set(data, "good", seed)
    after = fetched(machine, server, folder, kind, word)
    return "" if after.code == 0 else f"after it a good download fails: {after.err.strip()[-300:]}"


def _is_kept(path: Path, data: bytes) -> bool:
    """Whether a file would be taken for a download by the next command, and is another than was meant."""
    return path.is_file() and not path.name.endswith((".incomplete", ".lock")) and path.read_bytes() != data
