"""Whether a folder tells of boxes in its images, and in which form: VOC's XML, YOLO's text files, or COCO's JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .box_files import BoxFiles, files_of, files_under
from .coco_boxes import CocoFound, coco_files, coco_images
from .told_boxes import ToldImages
from .voc import holds_voc, voc_images
from .yolo import holds_yolo, yolo_images

FILES = (".json", ".yaml", ".yml")  # what may be named in place of a folder


@dataclass(frozen=True)
class BoxFolder:
    """The ``form`` of the boxes under a folder ("voc", "yolo" or "coco"), the files there, and COCO's among them."""

    form: str
    files: BoxFiles
    coco: CocoFound = field(default_factory=CocoFound)

    @property
    def used(self) -> tuple[Path, ...]:
        """The files, beside images, of its kind."""
        files = self.files
        if self.form == "coco":
            return self.coco.used
        return (*files.xmls, *files.texts) if self.form == "voc" else (*files.texts, *files.yamls, *files.lists)

    def read(self) -> ToldImages:
        """The images and what is told of the boxes in them. DataError."""
        if self.form == "coco":
            return coco_images(self.files, self.coco)
        return voc_images(self.files) if self.form == "voc" else yolo_images(self.files)


def find_boxes(path: Path, asked: bool = False) -> BoxFolder | None:
    """The boxes under a folder, or that a data.yaml or COCO file tells of; None where nothing looks like it.

    Unless they are ``asked`` for, only what can hardly be meant otherwise is taken for boxes: annotations of most of
    the images, or in folders or with lists that are called so, and no COCO file that has outlines too.
    """
    files = files_of(path) if path.is_file() else files_under(path)
    if not files.images:
        return None
    if files.xmls and holds_voc(files, asked):
        return BoxFolder("voc", files)
    if files.texts and holds_yolo(files, asked):
        return BoxFolder("yolo", files)
    coco = coco_files(files, asked)
    return BoxFolder("coco", files, coco) if coco.used else None
