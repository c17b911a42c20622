"""Runs, stores, studies and exports as somebody might send them, forged and sealed again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from torture.gift import ABSURD, Gift, Yard, chance, escaping, finite, pick, planted, word
from torture.gift_readers import WEIGHTS
from torture.gift_texts import FORMULAS, json_bomb

MARKUP = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "'-alert(1)-'",
          "javascript:alert(1)", "{{7*7}}", "${7*7}", "</style><script>alert(1)</script>",
          "--><script>alert(1)</script>",
          "\u202egnp.exe", "\x1b]0;x\x07", "a\nb", "</title><b>", "]]><x>", "&lt;script&gt;", "`alert(1)`",
          "data:text/html,<script>alert(1)</script>", "---\nlicense: x\n---", "[x](javascript:alert(1))",
          "| a | b |")  # fmt: skip
SEALED = (".json", ".jsonl")


def _thing(rng: np.random.Generator, yard: Yard) -> Any:
    """A value to plant: absurd, a path outside, code, markup, a formula."""
    odd = [
        escaping(rng, yard).replace("\0", "0"),
        f"{yard.foreign}/evil.py:build",
        pick(rng, MARKUP),
        pick(rng, FORMULAS),
    ]
    return finite(pick(rng, [*odd, *odd, pick(rng, ABSURD), pick(rng, ABSURD), int(rng.integers(10**6)), 2**40]))


def _forge_json(path: Path, rng: np.random.Generator, thing: Any) -> None:
    """Plant something into a sealed file, and seal it again."""
    from convscope import storage

    if path.suffix == ".jsonl":
        rows = storage.read_lines(path)
        place = int(rng.integers(len(rows))) if rows else 0
        changed = planted(rows[place], rng, thing) if rows else thing
        rows[place : place + 1] = [changed if isinstance(changed, dict) else {"x": changed}]
        storage.commit_lines(path, rows)
        return
    changed = planted(storage.read_json(path), rng, thing)
    storage.commit_json(path, changed if isinstance(changed, dict) else {"x": changed})


def _forge_tensors(path: Path, rng: np.random.Generator, thing: Any) -> None:
    from convscope import tensor_files

    tensors, meta = tensor_files.read_tensors(path)
    changed = planted(meta, rng, thing)
    tensor_files.commit_tensors(path, tensors, changed if isinstance(changed, dict) else {"x": changed})


def _named(thing: Any, name: str) -> str:
    return f"{name} with {thing!r:.40}"


def _damage(run: Path, rng: np.random.Generator, yard: Yard) -> str:
    """Change one file of a run; what was done."""
    from convscope import storage

    files = sorted(p for p in run.rglob("*") if p.is_file() and not p.name.startswith("."))
    path, thing = pick(rng, files), _thing(rng, yard)
    name = path.relative_to(run).as_posix()
    way = pick(rng, ["forged"] * 9 + ["bomb", "link", "link", "pipe", "folder", "huge", "markup"])
    if way == "forged" and path.suffix in SEALED:
        _forge_json(path, rng, thing)
    elif way == "forged" and path.suffix == ".safetensors":
        _forge_tensors(path, rng, thing)
    elif way == "bomb" and path.suffix in SEALED:
        told, text = json_bomb(rng, {"a": 1})
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return f"{name} with {told}"
    elif way == "huge":
        os.truncate(path, int(pick(rng, [2**33, 2**40, 2**26 + 1])))
        return f"{name} made huge"
    elif way == "markup":
        storage.commit_json(run / "diagnose.json", {"sentence": thing, "findings": [thing], "verdict": thing})
    elif way in ("pipe", "folder"):
        path.unlink()
        os.mkfifo(path) if way == "pipe" else path.mkdir()
        return f"{name} is a {way}"
    else:
        target = pick(rng, [yard.secret, str(yard.foreign), "/dev/zero", "/etc/passwd", name.split("/")[-1], "..", "/"])
        path.unlink()
        path.symlink_to(target)
        return f"{name} is a link to {target.rpartition('/')[2] or '/'}"
    return _named(thing, name)


def run(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A run whose files are forged, or are none; alone in a folder of runs."""
    gift = folder / "gift"
    shutil.copytree(yard.home / "runs" / "base", gift)
    (gift / "evil.py").write_text(
        f"open({yard.canary!r}, 'w')\ndef build(num_classes, image_size):\n    raise SystemExit\n"
    )
    if chance(rng, 0.3):
        names = [pick(rng, [*MARKUP, *FORMULAS, "cat"]) + str(i) for i in range(10)]
        _rename(gift, names)
        return Gift(f"a run whose classes are called {names[0]!r} and so on", gift, ("run", "markup"))
    told = {_damage(gift, rng, yard) for _ in range(int(rng.integers(1, 3)))}
    return Gift(f"a run: {', '.join(sorted(told))}", gift, ("run", "site"))


def _rename(gift: Path, names: list[str]) -> None:
    """Give the classes of a run other names, wherever they stand."""
    from convscope import storage, tensor_files

    path = gift / "classifier.safetensors"
    tensors, meta = tensor_files.read_tensors(path)
    old = list(meta["classes"])
    names = [*names, *(f"n{i}" for i in range(len(old)))][: len(old)]
    table = dict(zip(old, names, strict=True))

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {table.get(k, k): renamed(v) for k, v in value.items()}
        if isinstance(value, list):
            return [renamed(v) for v in value]
        return table.get(value, value) if isinstance(value, str) else value

    tensor_files.commit_tensors(path, tensors, renamed(meta))
    for file in sorted(gift.rglob("*.json")):
        storage.commit_json(file, renamed(storage.read_json(file)))


# ------------------------------------------------------------------------------------------------- stores and packs


def store(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A feature store whose shards do not fit, or a pack of images that is none."""
    import torch

    from convscope import tensor_files

    if chance(rng, 0.4):
        return _pack(rng, folder, yard)
    kinds = [torch.float32, torch.float16, torch.uint8, torch.int64, torch.bool, torch.float64, torch.bfloat16]
    told = []
    for _ in range(int(rng.integers(1, 4))):
        rows, wide = int(rng.integers(0, 40)), tuple(int(n) for n in rng.integers(0, 9, int(rng.integers(0, 4))))
        keys = torch.zeros((int(pick(rng, [rows, rows, rows + 1])), int(pick(rng, [32, 32, 31, 0]))), dtype=torch.uint8)
        features = torch.zeros((rows, *wide), dtype=pick(rng, [*kinds, *[torch.float32] * 7]))
        tensors = {"keys": keys, "features": features}
        if chance(rng, 0.2):
            tensors[word(rng)] = tensors.pop(pick(rng, ["keys", "features"]))
        path = folder / f"{word(rng, 24)}.safetensors"
        tensor_files.commit_tensors(path, tensors, {"rows": finite(pick(rng, ABSURD))})
        if chance(rng, 0.2):
            path.unlink()
            path.symlink_to(yard.secret) if chance(rng, 0.5) else os.mkfifo(path)
        told.append(f"{tuple(keys.shape)} keys and {tuple(features.shape)} {features.dtype}")
    return Gift(f"a store of {'; '.join(told)}", folder, ("store",))


def _pack(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    from convscope.storage import SEAL, seal_of

    pixels = bytes(4 * 16 * 16 * 3)
    import xxhash

    honest = {"format": 3, "size": 16, "images": 4, "bad": [], "hashes": [xxhash.xxh3_128_hexdigest(pixels)]}
    thing = finite(pick(rng, [*ABSURD, 2**31, [[0, "x"]], [[10**9, "x"]], [[-1, yard.secret]]]))
    box = planted(honest, rng, thing)
    what = f"{thing!r:.40} in its trailer"
    text = json.dumps({**box, SEAL: seal_of(box)} if isinstance(box, dict) else box)
    if chance(rng, 0.3):
        what, text = json_bomb(rng, honest)
    raw = text.encode("utf-8", "surrogatepass")
    length = len(raw) if chance(rng, 0.8) else int(pick(rng, [0, len(raw) + 1, 2**31, 2**63, len(raw) + len(pixels)]))
    path = folder / "images.u8"
    path.write_bytes(pixels + raw + length.to_bytes(8, "little"))
    return Gift(f"a pack of images with {what}, {length} long", path, ("pack", *WEIGHTS[1:4]))


# --------------------------------------------------------------------------------------------------------- studies


def study(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """Results of a study in a folder of runs, or as handed in by a student."""
    from convscope import storage

    quantity = {"quantity": "gap", "told": "1 [0, 2]", "verdict": "holds", "wanted": "> 0", "would_decide": ""}
    honest = {
        "claim": "dropout-gap", "sentence": "it holds.", "question": "does it?", "expected": "> 0", "size": "small",
        "verdict": "holds", "words": "words", "quantities": [quantity], "notes": ["a note"], "seeds": [1, 2],
        "seconds": 1.5,
        "data": {"name": "digits", "fingerprint": "0" * 64}, "versions": {"torch": "2"}, "arms": [], "format": 3,
        "interrupted": False, "training_seconds": 1.5, "machine": {"device": "cpu"}, "plan": {"by_place": []},
    }  # fmt: skip
    thing = _thing(rng, yard)
    box = planted(honest, rng, thing)
    place = folder / "runs" / "study"
    place.mkdir(parents=True)
    names = {int(rng.integers(3)): f"{word(rng)}.json", 3: "dropout-gap-small.json"}
    for name in names.values():
        storage.commit_json(place / name, box if isinstance(box, dict) else {"x": box})
    if chance(rng, 0.2):
        path = place / f"{word(rng)}.json"
        path.symlink_to(yard.secret) if chance(rng, 0.5) else os.mkfifo(path)
    if chance(rng, 0.2):
        (place / "bomb.json").write_bytes(json_bomb(rng, honest)[1].encode("utf-8", "surrogatepass"))
    return Gift(_named(thing, "a study"), folder / "runs", ("site", "handed in"))


# --------------------------------------------------------------------------------------------------------- exports


def export(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """An ONNX file, sealed as an export is, with external data, loops or sizes; beside it the plain script."""
    onnx, told, model = _model(rng, yard)
    about = {"classes": ["a", "b"], "preprocess": {"size": 16}, "seal": {"logits": [[0, 0]] * 16, "tolerance": 1e9}}
    thing = _thing(rng, yard)
    if chance(rng, 0.3):
        about, told = planted(about, rng, thing), f"{told} and {thing!r:.30} in its description"
    path = folder / "gift.onnx"
    path.write_bytes(_seal(onnx, model, json.dumps(about)))
    if chance(rng, 0.2):
        data = path.read_bytes()
        place = int(rng.integers(len(data)))
        path.write_bytes(data[:place] + bytes(8) + data[place + 8 :])
        told += ", damaged"
    return Gift(f"an export with {told}", path, ("onnx", "weights", "dataset", "classifier"))


def _seal(onnx: Any, model: Any, about: str) -> bytes:
    from convscope.exporting.predict_onnx import UNSEALED
    from convscope.storage import sha256

    onnx.helper.set_model_props(model, {"convscope": about, "convscope_sha256": UNSEALED})
    data = model.SerializeToString()
    return data.replace(UNSEALED.encode(), sha256(data).encode())


def _model(rng: np.random.Generator, yard: Yard) -> tuple[Any, str, Any]:
    import onnx
    from onnx import TensorProto, helper

    out, n = escaping(rng, yard), int(pick(rng, [2**10, 2**31, 2**62]))
    out = out.replace("\ud800", "?")[:300]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 16, 16, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    cast = helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT)
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0)
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", out), ("offset", "0"), ("length", "24")):
        outside.external_data.add(key=key, value=value)
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [n, n])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["u"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c",
        TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("u",
        TensorProto.FLOAT, None)],
    )  # fmt: skip
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [0.0] * 6)
    end = helper.make_node("MatMul", ["m", "w"], ["logits"])
    turns = int(rng.integers(1, 2**16))  # a graph is a program: what it computes takes what it takes, and is not judged
    trips = helper.make_tensor("t", TensorProto.INT64, [], [turns])
    ways: dict[str, tuple[list[Any], list[Any]]] = {
        f"data at {out[:40]!r}": ([cast, mean, end], [outside]),
        f"{n} times {n} numbers": ([cast, mean, helper.make_node("ConstantOfShape", ["s"], ["logits"])], [shape]),
        f"a loop of {turns}": ([cast, mean, helper.make_node("Loop", ["t", "", "m"], ["logits"], body=body)], [trips]),
        f"a tensor told as {n}": (
            [cast, mean, end],
            [TensorProto(name="w", data_type=1, dims=[n, 2], raw_data=b"\0" * 8)],
        ),
        f"an operator {word(rng)}": (
            [cast, mean, helper.make_node(word(rng), ["m"], ["logits"], domain=word(rng))],
            [],
        ),
        f"a string of {n % 99991}": (
            [cast, mean, end],
            [weights, helper.make_tensor("z", 8, [1], [b"x" * (n % 99991)])],
        ),
        f"a cycle {word(rng)}": ([cast, mean, helper.make_node("Add", ["logits", "m"], ["logits"])], []),
        f"nothing wrong {word(rng)}": ([cast, mean, end], [weights]),
    }
    what = pick(rng, sorted(ways))
    nodes, given = ways[what]
    graph = helper.make_graph(nodes, word(rng), [images], [logits], given)
    return onnx, what, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
