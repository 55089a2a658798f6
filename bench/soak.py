"""`python -m bench.soak --simulated 8h` and `--real 10m`: hours of pushes, faults and restarts; then nothing is stuck and nothing has grown."""

from __future__ import annotations

import argparse
import sys

from reconciler.desired.scalars import seconds


def main() -> int:
    """Parse, play, print; 1 when something is stuck."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--simulated", metavar="TIME", type=seconds, help="played nodes in played time, such as 8h"
    )
    how.add_argument(
        "--real", metavar="TIME", type=seconds, help="two lab nodes and a daemon process, such as 10m"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--traced", action="store_true", help="simulated: count Python's own memory too (slower)"
    )
    parser.add_argument(
        "--steady", action="store_true", help="simulated: one daemon all along, without restarts"
    )
    arguments = parser.parse_args()
    if arguments.simulated:
        from bench.soak_simulated import Settings, soak  # noqa: PLC0415 - either needs what the other may lack

        settings = Settings(
            arguments.simulated, arguments.seed, traced=arguments.traced, steady=arguments.steady
        )
        report = soak(settings)
    else:
        from bench.soak_real import soak as soak_real  # noqa: PLC0415 - it needs a lab

        report = soak_real(arguments.real, arguments.seed)
    print(report.text())
    return 1 if report.stuck else 0


if __name__ == "__main__":
    sys.exit(main())
