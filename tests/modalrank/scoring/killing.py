"""Kills scoring jobs at random points: python -m tests.modalrank.scoring.killing MODEL INPUT FOLDER N SEED.

The jobs run in forks of a process that has imported everything and started no thread, because 50 fresh
processes would spend minutes on imports. Prints how many were killed and how many outputs were compared.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

# These are imported where they are used.
import catboost  # noqa: F401
import duckdb  # noqa: F401
import lightgbm  # noqa: F401
import xgboost  # noqa: F401

from modalrank.scoring import Model, Options, run_job


def start(model: Model, given: str, out: Path) -> int:
    """Run the job in a fork; return its process id."""
    if pid := os.fork():
        return pid
    code = 1
    options = Options("candidates", given, shard_rows=40, on_error="quarantine")
    try:
        run_job(model, options, out, lambda _: None)
        code = 0
    finally:
        os._exit(code)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def main() -> None:
    """Kill, resume and compare."""
    folder, given, root = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    kills, dice = int(sys.argv[4]), random.Random(int(sys.argv[5]))
    model = Model("killed", "1", folder)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(model, given, root / "whole"), 0)[1]) == 0
    spent = time.monotonic() - began
    expected = content(root / "whole")
    killed = compared = resumed = 0
    while killed < kills:
        out = root / "out"
        times = 0
        while True:
            pid = start(model, given, out)
            # Later in a row of kills there is less left to do.
            time.sleep(dice.uniform(0, spent))
            if killed < kills:
                os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            assert not out.exists() or content(out) == expected, "half an output was published"
            killed, times = killed + 1, times + 1
        assert content(out) == expected, f"other bytes after {times} kills"
        compared, resumed = compared + 1, resumed + (times > 0)
        assert sorted(path.name for path in root.iterdir()) == ["out", "whole"]
        shutil.rmtree(out)
    print(killed, compared, resumed, spent)  # noqa: T201


if __name__ == "__main__":
    main()
