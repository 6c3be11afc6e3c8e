"""How long a search for marked processes takes: `python benchmarks/bench_process_marks.py`.

500 processes beside those of the machine, one of them with the mark that is wanted.
"""

import os
import statistics
import subprocess
import time

from skerry.plumbing.process_marks import left_behind

PROCESSES = 500
ROUNDS = 20


def main() -> None:
    """Print how many processes there were and what a search took, in milliseconds."""
    started = [
        subprocess.Popen(["sleep", "300"], env={**os.environ, "SKERRY_BENCH_MARK": str(number)})
        for number in range(PROCESSES)
    ]
    try:
        wall, own = [], []
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), time.process_time()
            assert set(left_behind("SKERRY_BENCH_MARK", ["7"])) == {"7"}
            wall.append(1000 * (time.perf_counter() - began))
            own.append(1000 * (time.process_time() - cpu))
        processes = sum(entry.isdigit() for entry in os.listdir("/proc"))
        print(f"{processes} processes: median {statistics.median(wall):.0f} ms, ", end="")
        print(f"most {max(wall):.0f} ms, CPU {statistics.median(own):.0f} ms")
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
