"""Folders of images with what tells of boxes and masks: YAML, VOC's XML, YOLO's texts, COCO's JSON; links and pipes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

from torture.gift import ABSURD, Gift, Yard, chance, escaping, pick, planted, word
from torture.gift_texts import image, json_bomb

ENTITIES = """<!DOCTYPE annotation [<!ENTITY a0 "{0}">{1}]>"""
VOC = "<annotation><filename>{0}</filename><size><width>{1}</width><height>16</height></size>{2}</annotation>"
OBJECT = "<object><name>{0}</name><difficult>{1}</difficult><bndbox><xmin>{2}</xmin><ymin>1</ymin><xmax>9</xmax>"
OBJECT += "<ymax>{3}</ymax></bndbox></object>"
TAGS = ("!!python/object/apply:os.system", "!!python/object/new:subprocess.Popen", "!!python/name:os.system",
        "!!python/module:antigravity", "!!python/object:os.system", "!!python/tuple", "!!binary", "!!float",
        "!!timestamp",
        "!!set", "!!omap", "!!int", "!include", "!ENV", "!!java.net.URL",
        "!!python/object/apply:builtins.exec")  # fmt: skip


def _yaml(rng: np.random.Generator, yard: Yard) -> tuple[str, str]:
    tag, out, n, name = pick(rng, TAGS), escaping(rng, yard), int(rng.integers(2, 20_000)), word(rng)
    aliases = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)}, ' * 9}]\n" for i in range(n % 20 + 1)
    )
    ways = {
        f"a tag {tag} of a list": f"names: {tag} ['touch {yard.canary}', {n}]\n",
        f"a tag {tag} of a text": f"names: {tag} 'touch {yard.canary} {n}'\n",
        f"a tag {tag} of a key": f"? {tag} [{n}]\n: names\nnames: [a, b]\n",
        f"names that refer to themselves ({n})": f"{aliases}names: *b\n",
        f"lists {n} deep": "names: " + "[" * n + "]" * n + "\n",
        f"lists {n % 50} deep": "names: " + "[" * (n % 50) + "]" * (n % 50) + "\n",
        f"{n} names": "names:\n" + "".join(f"- {name}{i}\n" for i in range(n)),
        f"a number of {n} digits": f"names: [{'9' * n}, b]\n",
        f"a key of {n} digits": f"names: {{{'9' * n}: b, 1: c}}\n",
        f"a path {out[:30]!r}": f"path: {json.dumps(out)}\ntrain: images\nval: {json.dumps(out)}\nnames: [a, b]\n",
        f"a base of {n} parts": f"names: [1:{':'.join(['59'] * (n % 4000))}, b]\n",
        f"merged ({n})": f"x: &x {{a: {n}}}\n<<: [*x, *x]\nnames: [a]\n",
        f"a date {n}": f"names: [2026-99-{n}, 1]\n",
        f"{n} documents": "---\n" * n + "names: [a]\n",
        f"bytes {n}": f"names: [!!binary {'QUJD' * n}, b]\n",
        f"an endless quote {n}": "names: ['" + "a\n" * n,
        f"control {n}": f"names: [\"\\x1b[2J{n}\", '\\0']\n",
    }
    what = pick(rng, sorted(ways))
    return what, ways[what]


def _voc(rng: np.random.Generator, yard: Yard) -> tuple[str, str]:
    out, n = escaping(rng, yard), int(rng.integers(2, 30_000))
    plain = OBJECT.format("cat", 0, 2, 9)
    steps = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(n % 30 + 1))
    number = pick(rng, ["nan", "inf", "1e999", "9" * n, "-1", "x", "0x1", "\uff11", f"1e{n}"])
    ways = {
        f"entities {n % 30 + 1} deep": ENTITIES.format("lol", steps) + VOC.format("a.png", 16,
        f"<x>&a{n % 30 + 1};</x>"),
        f"one entity {n} times": ENTITIES.format("x" * n, "") + VOC.format("a.png", 16, f"<x>{'&a0;' * n}</x>"),
        f"an entity of {out[:30]!r}": f'<!DOCTYPE a [<!ENTITY x SYSTEM "{out[:99]}">]>' + VOC.format("&x;", 16, plain),
        f"a parameter of {out[:30]!r}": f'<!DOCTYPE a [<!ENTITY % x SYSTEM "{out[:99]}">%x;]>' + VOC.format("a", 16,
        plain),
        f"a document type {out[:30]!r}": f'<!DOCTYPE a SYSTEM "{out[:99]}">' + VOC.format("a.png", 16, plain),
        f"included {out[:30]!r}": VOC.format("a.png", 16, f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" '
                                             f'href="{out[:99]}" parse="text"/>{plain}'),
        f"{n} deep": "<annotation>" + "<object>" * n + "</object>" * n + "</annotation>",
        f"{n} deep and open": "<annotation>" + "<a>" * n,
        f"{n} attributes": "<annotation " + " ".join(f'a{i}="{i}"' for i in range(n)) + ">" + plain + "</annotation>",
        f"{n} objects": VOC.format("a.png", 16, plain * n),
        f"a file name {out[:30]!r}": VOC.format(out.replace("&", "").replace("<", ""), 16, plain),
        f"a width {number[:20]}": VOC.format("a.png", number, plain),
        f"a corner {number[:20]}": VOC.format("a.png", 16, OBJECT.format("cat", 0, number, number)),
        f"a name of markup {n}": VOC.format("a.png", 16, OBJECT.format(f"&lt;script&gt;alert({n})&lt;/script&gt;", 0,
        2, 9)),
        f"a stylesheet {out[:30]!r}": f'<?xml-stylesheet href="{out[:99]}"?>' + VOC.format("a.png", 16, plain),
        f"an encoding {word(rng)}": f'<?xml version="1.0" encoding="{word(rng)}"?>' + VOC.format("a.png", 16, plain),
        f"a name of {n * 30} letters": VOC.format("a.png", 16, OBJECT.format("x" * n * 30, 0, 2, 9)),
    }  # fmt: skip
    what = pick(rng, sorted(ways))
    return what, ways[what]


def _coco(rng: np.random.Generator, yard: Yard) -> tuple[str, str]:
    runs = pick(rng, [{"counts": [10**12], "size": [16, 16]}, {"counts": "00" * 999, "size": [16, 16]},
                      {"counts": [1] * 50_000, "size": [2**31, 2**31]}, [[1, 1, 9, 1, 9, 9]], [[float("nan")] * 6],
                      [[1e308] * 6], [[0, 0, 2**40, 0, 2**40, 2**40]], [[1, 1] * 50_000]])  # fmt: skip
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    box = {"images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 16}], "annotations": [one],
           "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    way = int(rng.integers(4))
    if way == 0:
        one["segmentation"] = runs
        return f"outlines {str(runs)[:40]}", json.dumps(box)
    if way == 1:
        out = escaping(rng, yard)
        box["images"][0]["file_name"] = out
        return f"a file name {out[:30]!r}", json.dumps(box)
    if way == 2:
        thing = pick(rng, [*ABSURD, 2**62, "<script>", [2**40] * 4, ["a"] * 4, {"$ref": "#"}])
        return f"{thing!r:.30} in it", json.dumps(planted(box, rng, thing))
    return json_bomb(rng, box)


def _yolo(rng: np.random.Generator, yard: Yard) -> tuple[str, str]:
    n = int(rng.integers(2, 50_000))
    cell = pick(rng, ["nan", "inf", "1e999", "9" * n, "-1", "x", "\uff11", "0_1", "\0", "=1", "1e-400"])
    ways = {
        f"{n} lines": "0 0.5 0.5 0.2 0.2\n" * n,
        f"{n} numbers in a line": "0 " + "0.5 " * n,
        f"a number {cell[:20]}": f"0 0.5 {cell} 0.2 0.2\n",
        f"a class {cell[:20]}": f"{cell} 0.5 0.5 0.2 0.2\n",
        f"a class {n}{'0' * 5}": f"{n}00000 0.5 0.5 0.2 0.2\n",
        f"no end of line {n}": "0" * n * 20,
    }
    what = pick(rng, sorted(ways))
    return what, ways[what]


FORMS: dict[str, tuple[Callable[[np.random.Generator, Yard], tuple[str, str]], str, tuple[str, ...]]] = {
    "YAML": (_yaml, "data.yaml", ("yaml", "boxes", "asked")),
    "VOC's XML": (_voc, "a.xml", ("voc", "boxes", "asked")),
    "COCO's JSON": (_coco, "instances.json", ("coco", "coco boxes", "boxes", "masks", "asked")),
    "YOLO's text": (_yolo, "a.txt", ("yolo", "boxes", "asked")),
}


def boxes(form: str, rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A folder of an image and such a file, or the file alone."""
    make, name, readers = FORMS[form]
    what, text = make(rng, yard)
    image(folder / "a.png", rng)
    (folder / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    single = chance(rng, 0.5)
    chosen = ("voc", "yolo", "yaml", "coco", "coco boxes") if single else ("boxes", "masks", "asked", "dataset")
    named = (*(r for r in readers if r in chosen), *(("boxes",) if single and form in ("YAML", "COCO's JSON") else ()))
    return Gift(f"{form} with {what}", path if single else folder, named or ("dataset",))


# ------------------------------------------------------------------------------------------- what is no file at all

DATA_NAMES = ("a.xml", "a.txt", "data.yaml", "classes.txt", "instances.json", "obj.names", "labels.csv", "b.png",
"b.jpg",
              "ImageSets/Main/train.txt", "labels/a.txt", "annotations/a.xml", "masks/a.png",
              "train/x/c.png")  # fmt: skip


def data_folder(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A folder of images in which something is a pipe, a socket, a link, or nested without end."""
    for place in ("x", "y", "labels", "masks", "annotations"):
        (folder / place).mkdir()
        image(folder / place / "a.png", rng)
    image(folder / "a.png", rng)
    told = []
    for _ in range(int(rng.integers(1, 4))):
        name = pick(rng, DATA_NAMES)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        way = pick(
            rng, ["pipe", "socket", "/dev/zero", "/dev/full", "/proc/self/mem", "itself", "a file elsewhere", "/"]
        )
        if way == "pipe":
            os.mkfifo(path)
        elif way == "socket" and len(os.fsencode(path)) < 100:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        else:
            target = {"itself": name.split("/")[-1], "a file elsewhere": str(yard.elsewhere / "a.png"), "socket": "."}
            path.symlink_to(target.get(way, way))
        told.append(f"{name} is {way}")
    if chance(rng, 0.2):
        deep = folder / "x"
        for _ in range(int(rng.integers(10, 60))):
            deep /= word(rng, 40)
            deep.mkdir()
        image(deep / "z.png", rng)
    return Gift(f"a folder where {', '.join(told)}", folder, ("dataset", "asked", "boxes", "masks"))
