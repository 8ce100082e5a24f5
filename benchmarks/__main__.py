"""`python -m benchmarks [suite ...]`: run suites, print their tables, write them into the page.

Each suite runs in a process of its own: some contenders keep their settings in a class.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import pkgutil
import subprocess
import sys
from contextlib import suppress

from . import suites
from .harness import Suite, measure
from .report import section, table, write
from .rig import Rig, Tape


def find() -> dict[str, Suite]:
    """Every suite, by its name."""
    found = {}
    for module in pkgutil.iter_modules(suites.__path__):
        for suite in importlib.import_module(f"{suites.__name__}.{module.name}").SUITES:
            found[suite.name] = suite
    return found


def run(suite: Suite, *, seconds: float, page: bool) -> None:
    from tests.servers import RedisServer

    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    server = RedisServer().start()
    try:
        rig = Rig(tape=Tape(), redis_url=server.url, empty=lambda: void(server.command("FLUSHALL")))
        results = asyncio.run(measure(suite, rig, seconds=seconds))
    finally:
        server.close()
    sys.stdout.write(f"\n{suite.title}\n\n{table(results)}\n")
    if page:
        write(suite.name, section(suite, results))


def void(_: object) -> None:
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="*", help="all of them if none is named")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long one suite is timed")
    parser.add_argument("--no-page", action="store_true", help="print the tables only")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    known = find()
    if unknown := set(options.suite) - set(known):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if options.here:
        run(known[options.suite[0]], seconds=options.seconds, page=not options.no_page)
        return 0
    rest = ["--here", "--seconds", str(options.seconds), *(["--no-page"] if options.no_page else [])]
    codes = [
        subprocess.call([sys.executable, "-m", "benchmarks", name, *rest])
        for name in (options.suite or known)
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
