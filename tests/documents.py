"""`make docs`: what docs/ holds that is made from the code; tests/unit/test_documents.py looks."""

from __future__ import annotations

import json
from pathlib import Path

from bridge import schema

DOCS = Path(__file__).resolve().parents[1] / "docs"
_MARK = "## Every key of `bridge.toml`\n"


def made() -> dict[Path, str]:
    """What each file has to hold."""
    prose, mark, _ = (DOCS / "configuration.md").read_text(encoding="utf-8").partition(_MARK)
    assert mark, f"docs/configuration.md has no line {_MARK!r}"
    found = {DOCS / "configuration.md": f"{prose}{_MARK}\n{schema.markdown()}"}
    for name, table in (("bridge", schema.of_bridge()), ("agent", schema.of_agent())):
        text = json.dumps(table, indent=1, ensure_ascii=False)
        found[DOCS / "schema" / f"{name}.json"] = f"{text}\n"
    return found


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
