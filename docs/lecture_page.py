"""Write the page of the lecture's sentences, from ``studies/lecture.py``: ``python docs/lecture_page.py``.

A test holds the page to what this makes.
"""

from __future__ import annotations

from pathlib import Path

from convscope.studies.lecture import KINDS, SENTENCES, Sentence

PAGE = Path(__file__).with_name("lecture.md")
HEAD = """# The lecture, sentence by sentence

What each line of the lecture behind convscope says, in our words, and what became of it. Written by
`python docs/lecture_page.py`.
"""


def held(sentence: Sentence) -> str:
    """What holds, shows or does it."""
    if sentence.kind == "claim":
        return ", ".join(f"[`study {name}`](story.md)" for name in sentence.by)
    return ", ".join(f"[`{name}`]({name}.md)" for name in sentence.by) or "-"


def page() -> str:
    """The whole page."""
    kinds = "\n".join(f"- **{kind}**: {words};" for kind, words in KINDS.items())
    rows = [f"| {s.first} to {s.last} | {s.words} | {s.kind} | {held(s)} |" for s in SENTENCES]
    table = "\n".join(["| lines | what they say | | where |", "|---|---|---|---|", *rows])
    return f"{HEAD}\n{kinds}\n\n{table}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
