"""What the prose points at is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SKIPPED = {"target", "shared"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    return [
        page
        for page in sorted(ROOT.rglob("*.md"))
        if not any(part in SKIPPED or part.startswith(".") for part in page.relative_to(ROOT).parts)
    ]


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets on the page."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(line.lstrip("#")) for line in page.read_text().splitlines() if line.startswith("#")}


def broken(page: Path) -> list[str]:
    found = []
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue  # another site's business
        name, _, fragment = target.partition("#")
        there = (page.parent / name) if name else page
        if not there.exists() or (fragment and there.suffix == ".md" and fragment not in anchors(there)):
            found.append(f"{page.relative_to(ROOT)}: {target}")
    return found


def test_every_relative_link_leads_somewhere() -> None:
    assert [link for page in pages() for link in broken(page)] == []


def test_the_makefile_has_every_target_that_the_prose_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {target for page in pages() for target in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
