"""How documents are cut."""

import pytest

from bridge.toolbox.documents import GOOD, MOST, Chunk, chunks

MARKDOWN = """---
title: no text
---
# Delivery

We deliver on weekdays.

It is free.

## Abroad ##

Ten dollars.

Returns
-------
Within thirty days.

```
# no heading
```

# Shop
"""

HTML = """<html><head><title>no</title><style>p {}</style></head><body>
<nav>Home</nav><h1>Delivery</h1><p>We deliver
on <b>weekdays</b> &amp; more.</p><h2>Abroad</h2><ul><li>France<li>Spain</ul>
<table><tr><td>one</td><td>two</td></tr></table><script>if (a < b) {}</script></body></html>"""


def test_a_chunk_has_the_headings_above_it():
    assert chunks(MARKDOWN, ".md") == [
        Chunk("Delivery", "We deliver on weekdays.\n\nIt is free."),
        Chunk("Delivery › Abroad", "Ten dollars."),
        Chunk("Delivery › Returns", "Within thirty days.\n\n# no heading"),
    ]


def test_html_is_read_as_it_looks():
    assert chunks(HTML, ".html") == [
        Chunk("Delivery", "We deliver on weekdays & more."),
        Chunk("Delivery › Abroad", "France\nSpain\n\none two"),
    ]


def test_plain_text_has_no_headings():
    assert chunks("# one\r\n\r\ntwo\r\n---\r\n", ".txt") == [Chunk("", "# one\n\ntwo\n---")]


@pytest.mark.parametrize("end", [". ", " ", ""])
def test_what_is_long_is_cut_and_nothing_is_lost(end):
    text = f"abcdefghi{end}" * 500
    found = chunks(text, ".txt")
    assert all(len(chunk.text) <= MOST for chunk in found)
    assert all(len(chunk.text) >= GOOD for chunk in found[:-1])
    assert "".join(c.text for c in found).replace(" ", "") == text.replace(" ", "")
    if end == ". ":
        assert all(chunk.text.endswith(".") for chunk in found)


def test_what_is_short_is_put_together():
    found = chunks("\n\n".join(["a sentence of some length."] * 100), ".md")
    assert 5 <= len(found) <= 7


@pytest.mark.parametrize("suffix", [".md", ".txt", ".html"])
@pytest.mark.parametrize("text", ["", "\n\n", "#", "<", "</p></script>", "---\n", "```\n", "\0"])
def test_odd_documents(text, suffix):
    assert len(chunks(text, suffix)) <= 1
