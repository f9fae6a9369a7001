"""What importing costs: ``flowstore`` next to ``celery.app.base``, each over a bare interpreter, interleaved.

Run it with: python -m benchmarks.import_time [--rounds 21]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "bare interpreter": "pass",
    "import flowstore": "import flowstore",
    "from flowstore import FlowStore": "from flowstore import FlowStore",
    "import celery.app.base": "import celery.app.base",
}


def seconds(program: str) -> float:
    """Return how long a fresh interpreter takes for a program."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():
        seconds(program)  # writes the bytecode
    for _ in range(options.rounds):
        for name, program in PROGRAMS.items():
            times[name].append(seconds(program))
    medians = {name: statistics.median(found) for name, found in times.items()}
    bare = medians["bare interpreter"]
    celery = medians["import celery.app.base"] - bare
    print(f"medians of {options.rounds} interleaved rounds, over a bare interpreter ({bare * 1000:.0f} ms)")
    for name, median in medians.items():
        print(f"{name:32} {(median - bare) * 1000:6.1f} ms  {(median - bare) / celery:5.2f} of celery.app.base")


if __name__ == "__main__":
    main()
