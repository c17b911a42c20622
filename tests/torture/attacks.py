"""The table of attacks: each is held by tests/test_torture.py, run by ``make torture``, and told in reliability.md."""

from __future__ import annotations

from torture.attempts import Attack

ATTACKS: dict[str, Attack] = {
    "kills": Attack(
        "kills",
        "A command killed at any moment is typed again and ends in the bytes of one that nothing disturbed.",
        goal=1000,
        sample=200,
        quick=3,
    ),
    "steps": Attack(
        "steps",
        "A training killed after any step goes on to the same bits, with every optimizer and number of loader threads.",
        goal=432,  # 48 updates, 3 optimizers, 3 numbers of threads
        sample=216,
        quick=3,
    ),
    "crash points": Attack(
        "crash_points",
        "A file is the old one or the new one whatever system call fails or is the last, and is announced only then.",
        goal=6912,  # all that there are
        sample=3000,
        quick=4,
    ),
    "rot": Attack(
        "rot",
        "A flipped bit or a cut file is seen and named before anything of it is used, or what is read is equal.",
        goal=10_000,
        sample=8000,
        quick=60,
    ),
    "gifts": Attack(
        "hostile_files",
        "A file or folder that somebody sends runs nothing, opens nothing outside, and costs little.",
        goal=1000,
        sample=600,
        quick=24,
    ),
    "images": Attack(
        "mutated_images",
        "A damaged image is read or refused with a reason, alike in every command, in little time and memory.",
        goal=20_000,
        sample=16_000,
        quick=80,
    ),
    "requests": Attack(
        "page_requests",
        "The page answers honest requests while others attack it, and refuses every foreign one.",
        goal=12_000,
        sample=8000,
        quick=60,
    ),
    "numbers": Attack(
        "right_numbers",
        "Layers, losses, metrics and explainers agree with float64 and with gradients by differences.",
        goal=5000,
        sample=4000,
        quick=85,
    ),
    "surprises": Attack(
        "surprises",
        "Odd names, clocks, disks, servers and a second process change nothing but what is said.",
        goal=500,
        sample=120,
        quick=4,
    ),
    "sabotages": Attack(
        "sabotages",
        "A fault put into the code on purpose turns a test red.",
        goal=59,
        sample=59,
        quick=1,
    ),
}
