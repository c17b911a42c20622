"""`convscope models`: the list, the lecture's table of one, and the pretrained ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..options import Flag, Flat
from ..terminal import cell, console, new_table, print_json
from .options import ModelOptions

if TYPE_CHECKING:
    from .layer_table import Ledger


def models(
    name: str | None = None,
    /,
    *,
    options: Flat[ModelOptions] = ModelOptions(),
    pretrained: Flag = False,
    json: Flag = False,
) -> None:
    """List the models, or print the lecture's table of one: layers, sizes, parameters, work, rules it breaks.

    Parameters
    ----------
    name
        A model, one of torchvision or timm, or module.py:function for a net of your own (which runs that code).
    pretrained
        List pretrained networks instead: some, or with NAME all whose name contains it.
    json
        Print JSON.
    """
    from . import command
    from .pretrained import pretrained_list

    if pretrained:
        rows = pretrained_list(name)
        print_json(rows) if json else print_pretrained(rows)
        return
    if name is None:
        rows = command.model_list()
        if json:
            print_json(rows)
            return
        print_models(rows)
        return
    print_ledger(command.model_table(name, **vars(options)), json)


def print_models(rows: list[dict[str, Any]]) -> None:
    table = new_table("model", "parameters", "multiply-adds", "best measured", "options")
    for row in rows:
        best = f"{100 * row['top1']:.1f} % in {row['minutes']:.0f} min" if row["top1"] is not None else "-"
        sizes = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}")
        table.add_row(row["name"], *sizes, best, ", ".join(row["options"]))
    console().print(table)
    print(
        "at 32 x 32 for 10 classes; measured: validation accuracy on cifar10, one run on 2 cores (docs/results.md)\n"
        "the layers of one: convscope models NAME; torchvision's and timm's networks go by their names there"
    )


def print_ledger(book: Ledger, json: bool) -> None:
    from dataclasses import asdict

    from .layer_table import LECTURE_COLUMNS, lecture_cells, lecture_rows

    if json:
        print_json(asdict(book))
        return
    table = new_table(LECTURE_COLUMNS[0])
    for column in LECTURE_COLUMNS[1:]:
        table.add_column(column, justify="right")
    for row in lecture_rows(book):
        table.add_row(*(f"{int(c):,}" if c.isdecimal() else c for c in lecture_cells(row)))
    console().print(table)
    print(
        f"{book.parameters:,} parameters, {book.multiply_adds:,} multiply-adds and "
        f"{book.activation_bytes / 2**20:.2f} MiB of activations an image"
    )
    for rule in book.rules:
        print(f"rule: {rule}")


def print_pretrained(rows: list[dict[str, Any]]) -> None:
    """Pretrained networks with size, input, licence and whether they are here."""
    table = new_table("pretrained network", "parameters", "images", "licence", "here")
    for row in rows:
        licence = cell(row["licence"] or "unknown", "yellow" if row["note"] else "")
        size = f"{row['image_size']} x {row['image_size']}"
        table.add_row(row["name"], f"{row['parameters']:,}", size, licence, "yes" if row["here"] else "no")
    console().print(table)
    print(
        "every other one of timm's works by its name: convscope models NAME --pretrained lists those that contain NAME"
    )
