"""What an examination writes: a page, JSON, and the corrections file. Computes nothing of the checks."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..canvas.pages import page
from ..datasets.corrections import Correction, corrections_bytes, write_corrections
from ..errors import DamagedFile, ImageError
from ..folders import numbered_folder
from ..images.decoding import decoded
from ..images.preprocess import FITS, INTERPOLATIONS
from ..noted import Noted
from ..portable import folder_name
from ..storage import (
    commit_json,
    discard,
    file_hash,
    finite,
    make_folder,
    read_json,
    sha256,
    write_derived,
)
from ..tasks.detection import TASK
from .box_gallery import boxes_shown
from .box_sizes import NARROWEST
from .examination import Examination
from .findings import GRADES, Finding, counted
from .survey import Survey

NAME = "corrections.csv"
SEEN = "seen.json"  # pairs and doubtful labels with their images, for a page where they are judged
TEMPLATE = Path(__file__).with_name("report.html")
SHOWN_PAIRS, SHOWN_LABELS, SHOWN_FITS = 48, 60, 6
SIDE = 112  # pixels of an image on the page
TALL = 4  # times higher than wide, or wider than high, that an image is shown at most


@dataclass(frozen=True)
class DoctorReport(Noted):
    """An examination with its verdict; ``summary`` is printed as JSON and written to ``folder``."""

    TOLD = ("data", "images", "verdict")
    folder: Path
    found: Examination
    summary: dict[str, Any]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, the gravest first."""
        return self.found.findings

    @property
    def corrections(self) -> Path | None:
        """The corrections file; None where there is nothing to correct."""
        return self.folder / self.summary["corrections_file"] if self.summary["corrections"] else None


def verdict(found: Examination) -> str:
    """The verdict in one sentence."""
    grades = [finding.grade for finding in found.findings]
    faults, doubts = grades.count("fault"), grades.count("doubt")
    if not faults and not doubts:
        return "sound: nothing was found that has to be mended or looked at."
    first = found.findings[0]
    told = f"{first.sentence[0].upper()}{first.sentence[1:]}"
    if not faults:
        return f"no fault, {counted(doubts, 'thing')} to look at. {told}"
    more = f" and {counted(doubts, 'thing')} to look at" if doubts else ""
    return f"{counted(faults, 'fault')} to mend{more}. {told}"


def write(report: DoctorReport, before: Sequence[Correction] = ()) -> DoctorReport:
    """Write ``doctor.json``, ``corrections.csv`` and ``index.html``; returns the report.

    ``before`` are the corrections in use: new ones are added to them, so that one file holds all.
    """
    make_folder(report.folder)
    found = report.found
    said = {row.digest for row in before}  # of an image that was decided on the user's word stays
    rows = [*before, *(row for row in found.corrections() if row.digest not in said)]
    if report.corrections is not None:
        report.summary["corrections"] = len(rows)
        report.summary["corrections_hash"] = sha256(corrections_bytes(rows))
    # First, so that a corrections file is known as ours from the moment it is there.
    commit_json(report.folder / "doctor.json", finite(report.summary))
    if report.corrections is not None:
        write_corrections(report.corrections, rows)
    elif report.summary["corrections_file"]:
        discard(report.folder / report.summary["corrections_file"])  # of the last examination
    shown = {
        "grades": GRADES,
        "pairs": _pairs(found),
        "labels": _labels(found),
        "fits": _fits(found.survey),
        **_boxes(found),
        "fitted": TASK.size,
        "narrowest": NARROWEST,
    }
    targets = found.survey.unsplit.targets
    names = found.survey.unsplit.class_names if targets is None else targets.names
    told = {"classes": list(names) if targets is None else [], "pairs": shown["pairs"], "labels": shown["labels"]}
    commit_json(report.folder / SEEN, told)
    html = page(TEMPLATE, names=names, summary=report.summary, findings=found.findings, **shown)
    write_derived(report.folder / "index.html", html)
    return report


def place_of(runs: Path, name: str, read_from: str) -> Path:
    """The folder of the doctor's answers about data of this name; a number tells other data of that name apart."""
    return numbered_folder(runs, folder_name(name), "doctor/doctor.json", "read_from", read_from) / "doctor"


def corrections_file(folder: Path, used: Path | None) -> str:
    """A name for the corrections: never that of a file that the user has edited, or uses, now or in a run beside.

    The file of the last examination is written over where it still is what that wrote, and removed by ``write`` where
    there is none to write any more.
    """
    ours = ""
    with suppress(DamagedFile):
        before = read_json(folder / "doctor.json")
        path = folder / str(before.get("corrections_file") or NAME)
        ours_still = path.is_file() and file_hash(path) == before.get("corrections_hash")
        if ours_still and not _same(path, used) and not _remembered(path, folder.parent.parent):
            ours = path.name
    if ours:
        return ours
    numbers = (f"corrections-{n}.csv" for n in range(2, 10_000))
    return next(name for name in (NAME, *numbers) if not (folder / name).exists())


def _same(path: Path, used: Path | None) -> bool:
    return used is not None and path.resolve() == used.resolve()


def _remembered(path: Path, runs: Path) -> bool:
    """Whether the record of a run says that it was made with this file."""
    said = json.dumps(str(path.resolve()))
    return any(said in record.read_text("utf-8", "replace") for record in runs.glob("*/*.json"))


def _pairs(found: Examination) -> list[dict[str, Any]]:
    """Copies that one should see: those under two labels first, then those in two parts, then the nearest."""
    unsplit = found.survey.unsplit
    given, clash = unsplit.given, found.clash
    pairs = sorted(
        found.copies.all,
        key=lambda p: (not clash.differ(p), given[p.first] == given[p.second], p.exact, -p.alike),
    )
    rows = []
    for pair in pairs[:SHOWN_PAIRS]:
        members = [{**_shown(found.survey, i), "label": found.survey.label(i)} for i in (pair.first, pair.second)]
        alike = "the same bytes" if pair.exact else f"alike: {pair.alike:.3f}"
        alike += "".join(f", IoU of the {clash.kind}: {value:.2f}" for value in clash.of(pair).values())
        rows.append({"images": members, "alike": alike, "clash": clash.differ(pair)})
    return rows


def _labels(found: Examination) -> list[dict[str, Any]]:
    check = found.labels
    if check is None:
        return []
    names = found.survey.unsplit.class_names
    rows = []
    for place in check.doubtful[:SHOWN_LABELS]:
        i = int(check.index[place])
        rows.append(_shown(found.survey, i))
        rows[-1] |= {"label": found.survey.label(i), "likeliest": names[check.likeliest[place]]}
        rows[-1]["chance"] = f"{check.chance[place]:.0%}"
    return rows


def _boxes(found: Examination) -> dict[str, list[dict[str, str]]]:
    """Crops around boxes that are likely missing, and around those that are likely of another class."""
    shown = ([], []) if found.boxes is None else boxes_shown(found.survey, found.boxes, SHOWN_LABELS, SIDE)
    kinds = zip(("missing_boxes", "wrong_boxes"), shown, strict=True)
    return {kind: [{**vars(one), "uri": _uri(one.rgb)} for one in rows] for kind, rows in kinds}


def _fits(seen: Survey) -> list[dict[str, Any]]:
    """The images that a centre crop would cut most from, as each fit would show them."""
    good = seen.good
    rows = seen.rows[good]
    if not len(good) or not seen.unsplit.files or (rows["width"] == rows["height"]).all():
        return []
    order = good[rows["kept"].argsort(kind="stable")]
    chosen = [int(i) for i in order[: SHOWN_FITS // 2]] + [int(i) for i in order[len(order) // 2 :][: SHOWN_FITS // 2]]
    shown = []
    for i in dict.fromkeys(chosen):
        rgb = _rgb(seen, i)
        if rgb is None:
            continue
        how = INTERPOLATIONS["bilinear"]
        made = {name: _uri(fit(rgb, SIDE, how)) for name, fit in FITS.items()}
        row = seen.rows[i]
        cut = 1 - min(row["width"], row["height"]) / max(row["width"], row["height"])
        lost = f"a crop leaves out {cut:.0%} of the image and {1 - row['kept']:.0%} of its edges"
        said = f"{row['width']} x {row['height']}: {lost}"
        shown.append({"whole": _uri(rgb), "name": seen.unsplit.origin(i), "said": said, "fits": made})
    return shown


def _rgb(seen: Survey, i: int) -> Image.Image | None:
    """An image small enough for a page; None where it can no longer be read."""
    unsplit = seen.unsplit
    source = unsplit.files[i] if unsplit.arrays is None else Image.fromarray(unsplit.arrays[i])
    try:
        with decoded(source, at_least=SIDE) as rgb:
            width, height = rgb.size
            scale = SIDE / max(min(rgb.size), max(rgb.size) / TALL)
            return rgb.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
    except ImageError:
        return None


def _shown(seen: Survey, i: int) -> dict[str, str]:
    """An image, its name, and the digest by which a correction means it."""
    return {"uri": _picture(seen, i), "name": seen.unsplit.origin(i), "digest": seen.digests[i].tobytes().hex()}


def _picture(seen: Survey, i: int) -> str:
    rgb = _rgb(seen, i)
    return "" if rgb is None else _uri(rgb)


def _uri(rgb: Image.Image) -> str:
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def summary_of(found: Examination, read_from: str, notes: Sequence[str], seconds: dict[str, float]) -> dict[str, Any]:
    """All that is printed as JSON."""
    unsplit = found.survey.unsplit
    grades = [finding.grade for finding in found.findings]
    return {
        "data": unsplit.name,
        "read_from": read_from,
        "images": len(found.survey),
        "task": found.asking.task,
        "classes": len(unsplit.class_names if unsplit.targets is None else unsplit.targets.names),
        "verdict": verdict(found),
        "faults": grades.count("fault"),
        "doubts": grades.count("doubt"),
        "findings": [finding.to_json() for finding in found.findings],
        "corrections": len(found.corrections()),
        "corrections_file": "",
        "corrections_hash": "",
        "targets": found.rows,
        "labels_checked": found.labels is not None,
        "boxes_checked": found.boxes is not None,
        "label_accuracy": None if found.labels is None else found.labels.accuracy,
        "notes": list(notes),
        "seconds": seconds,
    }
