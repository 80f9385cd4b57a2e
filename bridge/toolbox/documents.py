"""Documents cut into what is worth reading at once: a paragraph or a few, with their headings.

    .md .markdown   headings, paragraphs
    .html .htm      the same, once its tags are taken for what they mean
    .txt            paragraphs

Short paragraphs under one heading are put together, up to `GOOD` characters; a long one is cut at
the end of a sentence. The headings above a chunk belong to it ("Delivery › Abroad"): a paragraph
seldom says itself what it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

SUFFIXES = (".md", ".markdown", ".txt", ".html", ".htm")
GOOD, MOST = 500, 900
"""Characters of a chunk."""

_HEADING = re.compile(r"(#{1,6})\s+(.*?)(?:\s+#+)?\s*")
_UNDERLINE = re.compile(r"=+|-{3,}")
_FENCE = ("```", "~~~")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is found."""

    heading: str
    text: str


def chunks(text: str, suffix: str) -> list[Chunk]:
    """A document's, in their order; `suffix`: of its name, one of `SUFFIXES`."""
    text = text.replace("\r\n", "\n")
    if suffix in (".html", ".htm"):
        parser = _Html()
        parser.feed(text)
        parser.close()
        text = "".join(parser.out)
    found: list[Chunk] = []
    for heading, paragraphs in _sections(text, headings=suffix != ".txt"):
        found += (Chunk(heading, piece) for piece in _pieces(paragraphs))
    return found


def _sections(text: str, headings: bool) -> Iterator[tuple[str, list[str]]]:
    """Paragraphs below the same headings."""
    above: list[tuple[int, str]] = []
    paragraphs: list[str] = []
    for paragraph in _paragraphs(text, headings):
        if isinstance(paragraph, str):
            paragraphs.append(paragraph)
            continue
        yield " › ".join(title for _, title in above), paragraphs
        paragraphs = []
        above = [one for one in above if one[0] < paragraph[0]]
        above.append(paragraph)
    yield " › ".join(title for _, title in above), paragraphs


def _paragraphs(text: str, headings: bool) -> Iterator[str | tuple[int, str]]:
    """Paragraphs, and headings with their level."""
    lines: list[str] = []
    fenced = False
    for line in _FRONT_MATTER.sub("", text).split("\n"):
        stripped = line.strip()
        if headings and stripped.startswith(_FENCE):
            fenced = not fenced
            continue
        plain = headings and not fenced
        if plain and (match := _HEADING.fullmatch(stripped)):
            yield "\n".join(lines)
            lines = []
            yield len(match[1]), match[2]
        elif plain and len(lines) == 1 and _UNDERLINE.fullmatch(stripped):
            yield (1 if stripped[0] == "=" else 2), lines.pop()
        elif stripped:
            lines.append(stripped)
        else:
            yield "\n".join(lines)
            lines = []
    yield "\n".join(lines)


def _pieces(paragraphs: list[str]) -> Iterator[str]:
    held = ""
    for paragraph in paragraphs:
        if held and len(held) + len(paragraph) > GOOD:
            yield held
            held = ""
        held = f"{held}\n\n{paragraph}".strip()
        while len(held) > MOST:
            cut = max(held.rfind(end, GOOD, MOST) for end in (". ", "! ", "? ", ".\n", "\n"))
            if cut < 0:
                cut = max(held.rfind(" ", GOOD, MOST), 0) or MOST - 1
            yield held[: cut + 1].strip()
            held = held[cut + 1 :].strip()
    if held:
        yield held


_BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "dd", "div", "dl", "dt", "fieldset"),
        *("figure", "footer", "form", "header", "hr", "main", "ol", "p", "pre", "section", "ul"),
        "table",
    )
)
_LINES = frozenset(("br", "li", "tr"))
_UNSEEN = frozenset(("head", "script", "style", "template", "noscript", "nav", "svg"))
_TITLES = frozenset(f"h{n}" for n in range(1, 7))


class _Html(HTMLParser):
    """Makes text of it, as it would stand in Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _TITLES:
            self.out.append(f"\n\n{'#' * int(tag[1])} ")
        elif tag in _BLOCKS:
            self.out.append("\n\n")
        elif tag in _LINES:
            self.out.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _BLOCKS or tag in _TITLES:
            self.out.append("\n\n")
        elif tag in ("td", "th"):
            self.out.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.out.append(re.sub(r"\s+", " ", data))
