"""How fast the metrics are, beside named peers: captions, retrieval, generated media.

    python benchmarks/metrics.py

Each part can be run alone, with options: metrics_captions.py, metrics_retrieval.py, metrics_generation.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    for part in ("captions", "retrieval", "generation"):
        print(f"\n{part}", flush=True)
        # Each in a process of its own, so that one's peak memory is not the next one's.
        subprocess.run([sys.executable, Path(__file__).with_name(f"metrics_{part}.py")], check=True)


if __name__ == "__main__":
    main()
