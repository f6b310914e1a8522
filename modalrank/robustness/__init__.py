"""What is lost when vectors are missing: curves over removed shares, against simpler rankers.

`measure` works on a model that was trained in the same process as well as on a registered one.
"""

from modalrank.robustness.bench import Bench, make_bench
from modalrank.robustness.contestants import Contestants, References, references_of
from modalrank.robustness.curves import Plan, Robustness, measure
from modalrank.robustness.verdicts import Verdict, verdicts, worst_slices

__all__ = [
    "Bench",
    "Contestants",
    "Plan",
    "References",
    "Robustness",
    "Verdict",
    "make_bench",
    "measure",
    "references_of",
    "verdicts",
    "worst_slices",
]
