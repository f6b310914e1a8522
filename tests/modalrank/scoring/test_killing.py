"""Jobs that are killed, and disks that are full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.modalrank.scoring.conftest import content
from tests.modalrank.worlds import with_cell

CHECKOUT = Path(__file__).resolve().parents[3]
FULL_DISK = """
import resource, sys
from pathlib import Path
from features.errors import TryAgainError
from modalrank.scoring import Model, Options, run_job

name, model, kind, given, out, limit = sys.argv[1:]
options = Options(kind, given, memory=64 << 20)
for room in (int(limit), resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        run_job(Model(name, "1", Path(model)), options, Path(out), lambda _: None)
        print("done")
    except TryAgainError as error:
        print(error.exit_code, error)
"""


def in_process(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_job_killed_at_fifty_points_ends_in_the_same_bytes(judged_model, judged_rows, tmp_path):
    """Rows in no order and a bad one, so that the kills fall on copying, sorting, scoring and publishing."""
    given = tmp_path / "given.parquet"
    with_cell(judged_rows, "doc_id", 5, None).sample(fraction=1, shuffle=True, seed=1).write_parquet(given)
    root = tmp_path / "killed"
    root.mkdir()
    told = in_process("-m", "tests.modalrank.scoring.killing", judged_model.folder, given, root, 50, 7)
    killed, compared, resumed, *_ = map(float, told.split())
    assert killed == 50 and compared >= 1 and resumed >= 1


@pytest.mark.parametrize("kind", ["candidates", "users"])
def test_full_disk_leaves_the_old_output_and_says_so(
    kind, job, judged_model, log_model, judged_rows, log_world, tmp_path
):
    """The limit stops the copy of wide candidates; users are few bytes, and their lists many."""
    if kind == "candidates":
        model, given, smaller = judged_model, tmp_path / "given.parquet", judged_rows.head(80)
        judged_rows.write_parquet(given)
    else:
        model, given = log_model, log_world.folder / "users.parquet"
        smaller = log_world.table("users.parquet").head(3)
    smaller.write_parquet(tmp_path / "few.parquet")
    old = job(tmp_path / "few.parquet", "out", model, kind)
    before = content(old.out)
    words = model.name, model.folder, kind, given, old.out, 4_500
    told = in_process("-c", FULL_DISK, *words).splitlines()
    assert told[0].startswith("5 no room left to write") and "is untouched" in told[0]
    assert told[1] == "done"
    expected = content(job(given, "expected", model, kind).out)
    assert content(old.out) == expected != before
