"""Every way that convscope reads an image's file: each is tried in a child of a process that has all it needs loaded.

    python -m torture.image_ways RUNS

reads lines of JSON, {"folder", "names"}: a folder of images in classes, and those of its files that are to be looked
at one by one. It answers with a line for each that says what came of it, {"name", "ways", "seconds", "megabytes",
"noise"}, after one that says that it begins, {"at"}; then with what the commands make of the whole folder, {"folder"},
and with how the child ended, {"ended"}. A child that dies takes none of the answers before with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = 32  # pixels that images are fitted to; those of the digits, so that one run answers for all
RUN = "digits"
WRITABLE = 8 << 30  # bytes of addresses, so that a reader without care does not take the machine with it
Outcome = dict[str, Any]  # {"ok": what is found}, {"no": the reason} or {"broke": an error that is no ImageError}


def outcome(work: Callable[[], Any]) -> Outcome:
    """What came of one way of reading."""
    from convscope.errors import ImageError

    try:
        return {"ok": work()}
    except ImageError as error:
        return {"no": error.reason, "passing": error.passing}
    except Exception as error:  # whatever else is raised is what is looked for
        return {"broke": f"{type(error).__name__}: {error}"[:300]}


def hashed(pixels: np.ndarray) -> str:
    return hashlib.sha256(f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def _decoded(source: Path | bytes) -> Any:
    from convscope.images.decoding import decode

    image = decode(source, where="it")
    right = image.mode == "RGB" and not image.info and min(image.size) > 0
    return [hashed(np.asarray(image)), *image.size] if right else f"mode {image.mode}, info {list(image.info)}"


def _fitted(source: Path | bytes) -> Any:
    from convscope.images.preprocess import Preprocess

    pixels, size = Preprocess(size=SIZE).fit_sized(source, "it")
    right = pixels.dtype == np.uint8 and pixels.shape == (SIZE, SIZE, 3)
    return [hashed(pixels), *size] if right else f"{pixels.dtype} {pixels.shape}"


def _headed(path: Path) -> Any:
    from convscope.images.decoding import read_header

    header = read_header(path, "it")
    return [header.format, header.orientation, *header.upright_size]


def _stored(path: Path) -> Any:
    from convscope.images.decoding import stored_values

    header, image = stored_values(path, "it")
    return [hashed(np.asarray(image)), header.width, header.height, *image.size]


def _examined(path: Path) -> Any:
    from convscope.errors import ImageError
    from convscope.inspection.survey import ROW, look_at

    row, drawn = look_at(path.read_bytes(), path.stat().st_size, "it")
    if isinstance(row, str):
        raise ImageError("it", row)
    found = dict(zip(ROW.names or (), row, strict=True))
    numbers = [float(found[name]) for name in ("darkest", "brightest", "red", "green", "blue", "colour", "kept")]
    right = np.isfinite(numbers).all() and all(np.isfinite(thumb).all() for thumb in drawn)
    return [found["format"], found["orientation"], found["width"], found["height"]] if right else f"numbers {numbers}"


def _animated(path: Path) -> Any:
    from convscope.images.decoding import has_frames

    return has_frames(path)


def ways(path: Path) -> Iterator[tuple[str, Outcome]]:
    """Each way of reading one file, by name."""
    yield "decode", outcome(lambda: _decoded(path))
    yield "decode its bytes", outcome(lambda: _decoded(path.read_bytes()))
    yield "training", outcome(lambda: _fitted(path))
    yield "its bytes fitted", outcome(lambda: _fitted(path.read_bytes()))
    yield "the doctor", outcome(lambda: _examined(path))
    yield "the header", outcome(lambda: _headed(path))
    yield "as a mask", outcome(lambda: _stored(path))
    yield "its frames", outcome(lambda: _animated(path))


class Watched:
    """What a child prints and warns of, its seconds and its memory, since they were last asked for."""

    def __init__(self, folder: Path) -> None:
        self.printed = open(folder / "printed", "w+b", buffering=0)  # noqa: SIM115 - until the child ends
        os.dup2(self.printed.fileno(), 2)
        self.warned: list[str] = []
        warnings.resetwarnings()
        warnings.simplefilter("always")
        warnings.showwarning = self._warned
        self.base = self.start()

    def _warned(self, message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        self.warned.append(f"{category.__name__}: {message}")

    def start(self) -> int:
        """Begin to measure; returns the memory that is taken now, in kB."""
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.begun = time.process_time()
        return _status("VmRSS")

    def noise(self) -> str:
        """What was printed on standard error, and warnings."""
        os.lseek(2, 0, os.SEEK_SET)
        printed = self.printed.read().decode(errors="replace").strip()
        self.printed.truncate(0)
        os.lseek(2, 0, os.SEEK_SET)
        found, self.warned = [*self.warned, *([printed] if printed else [])], []
        return "; ".join(found)[:300]

    def seconds(self) -> float:
        return round(time.process_time() - self.begun, 3)

    def megabytes(self) -> float:
        return round(max(0, _status("VmHWM") - self.base) / 1024, 1)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def told(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def look_at_each(folder: Path, names: list[str], runs: str, watched: Watched) -> None:
    """Read every file in every way, and then the folder as the commands do."""
    for name in names:
        told(at=name)
        found, longest = {}, 0.0
        watched.start()
        steps = ways(folder / name)
        while True:
            watched.begun = time.process_time()
            step = next(steps, None)
            if step is None:
                break
            found[step[0]], longest = step[1], max(longest, watched.seconds())
        told(name=name, ways=found, seconds=longest, megabytes=watched.megabytes(), noise=watched.noise())
    told(at="")
    told(folder=whole_folder(folder, names, runs), noise=watched.noise())


def whole_folder(folder: Path, names: list[str], runs: str) -> dict[str, dict[str, Outcome]]:
    """What a doctor's pass, the packing before a training, and predict make of the folder: by way and file."""
    import convscope
    from convscope.classifying.prediction import Prediction
    from convscope.datasets.folder import load_folder
    from convscope.datasets.packing import digests, fitted_images
    from convscope.images.preprocess import Preprocess
    from convscope.inspection.survey import survey

    unsplit = load_folder(folder, "classes")
    places = [str(path.relative_to(folder)) for path in unsplit.files]
    passed = survey(unsplit)
    rows = passed.rows
    surveyed = {
        place: {"no": passed.reasons[i], "passing": False}
        if i in passed.reasons
        else {"ok": [str(rows["format"][i]), *(int(rows[key][i]) for key in ("orientation", "width", "height"))]}
        for i, place in enumerate(places)
    }
    pixels, kept, _ = fitted_images(unsplit, digests(unsplit), Preprocess(size=SIZE), "skip", None)
    packed = {places[i]: {"ok": hashed(np.array(pixels[row]))} for row, i in enumerate(kept.tolist())}
    answers = convscope.predict(RUN, [folder / name for name in names], runs=runs)
    predicted = {
        name: {"ok": [list(pair) for pair in a.top]} if isinstance(a, Prediction) else {"no": a.error, "passing": False}
        for name, a in zip(names, answers, strict=True)
    }
    return {"the doctor's pass": surveyed, "packing": packed, "predict": predicted}


def warm() -> None:
    """Load what reading images loads when it first needs it."""
    import torch

    import convscope.classifying.prediction
    import convscope.evaluation.command
    import convscope.inspection.survey  # noqa: F401 - loaded for the children
    from convscope.images.decoding import decode
    from torture.synthetic_images import KINDS

    torch.set_num_threads(1)
    for images, _ in KINDS.values():
        for make in images.values():
            with contextlib.suppress(ImportError):
                decode(make())
    Image.init()


def serve(runs: str) -> None:
    """Answer until there is nothing more to read."""
    warm()
    told(ready=os.getpid())
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            status = 1
            try:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_AS, (WRITABLE, WRITABLE))
                told(child=os.getpid())
                folder = Path(asked["folder"])
                look_at_each(folder, asked["names"], runs, Watched(folder.parent))
                status = 0
            except BaseException as error:
                told(broke=f"{type(error).__name__}: {error}"[:300])
            finally:
                os._exit(status)
        told(ended=os.waitpid(child, 0)[1])


if __name__ == "__main__":
    serve(sys.argv[1])
