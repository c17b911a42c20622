"""Every sentence of the lecture has its place: an experiment, a command, a part of the package, or none."""

from __future__ import annotations

from pathlib import Path

import lecture_page
from convscope.cli.commands import COMMANDS
from convscope.studies.lecture import KINDS, SENTENCES
from convscope.studies.registry import CLAIMS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lecture.md"


def test_the_lecture_is_covered_line_by_line():
    after = 1
    for sentence in SENTENCES:
        assert sentence.first == after
        assert sentence.last >= sentence.first
        after = sentence.last + 1


def test_to_its_last_line(shared_data: Path):
    lines = (shared_data.parent / "lecture.txt").read_text(encoding="utf-8").splitlines()
    assert SENTENCES[-1].last == len(lines)
    for sentence in SENTENCES:
        spoken = " ".join(lines[sentence.first - 1 : sentence.last]).casefold()
        assert sentence.words.casefold() not in spoken  # in our own words


def test_each_claim_has_its_sentence_and_what_is_named_is_there():
    named = {name for sentence in SENTENCES if sentence.kind == "claim" for name in sentence.by}
    assert named == CLAIMS.keys()
    for sentence in SENTENCES:
        assert sentence.kind in KINDS
        assert bool(sentence.by) == (sentence.kind != "remark")
        if sentence.kind != "claim":
            assert set(sentence.by) <= COMMANDS.keys()


def test_the_page_has_every_sentence():
    assert PAGE.read_text(encoding="utf-8") == lecture_page.page()
