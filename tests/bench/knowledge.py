"""How long a search in documents takes: `python -m tests.bench.knowledge`; judges nothing."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path

from bridge.toolbox.knowledge import Index

CHUNKS, WORDS, QUERIES, SEED = 5000, 80, 300, 7
GOAL_MS = 20.0


def main() -> None:
    """Documents of made-up words, as unevenly frequent as a language's; queries of 2 to 16."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abdefgiklmnoprstuz", k=rng.randint(2, 10))) for _ in range(8000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law

    def text(n: int) -> str:
        return " ".join(rng.choices(words, weights, k=n))

    with tempfile.TemporaryDirectory() as folder:
        for n in range(CHUNKS // 50):
            parts = (f"## {text(3)}\n\n{text(WORDS)}\n" for _ in range(50))
            Path(folder, f"{n}.md").write_text("\n".join(parts))
        index = Index(Path(folder))
        began = time.perf_counter()
        index.load()
        print(f"{CHUNKS} chunks read in {(time.perf_counter() - began) * 1000:.0f} ms")
        for n in (2, 8, 16):
            took, cpu = [], time.thread_time()
            for _ in range(QUERIES):
                query = text(n)
                began = time.perf_counter()
                assert index.search(query, 3)
                took.append((time.perf_counter() - began) * 1000)
            took.sort()
            cpu_ms = (time.thread_time() - cpu) * 1000 / QUERIES
            print(
                f"{n:2} words: p50 {took[QUERIES // 2]:.1f} ms, "
                f"p95 {took[QUERIES * 95 // 100]:.1f} ms, most {took[-1]:.1f} ms "
                f"(goal {GOAL_MS:.0f}); {cpu_ms:.1f} ms of CPU"
            )
    print(f"load average meanwhile: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
