"""Batch scoring: files in, ranked files out, by a job that can be stopped and goes on."""

from modalrank.scoring.fresh import Fresh, refreshed
from modalrank.scoring.job import Result, run_job
from modalrank.scoring.options import Model, Options
from modalrank.scoring.scorer import candidates_of, score_candidates, score_table, score_users

__all__ = [
    "Fresh",
    "Model",
    "Options",
    "Result",
    "candidates_of",
    "refreshed",
    "run_job",
    "score_candidates",
    "score_table",
    "score_users",
]
