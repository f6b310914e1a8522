"""The two forms of data as the same thing: labelled frames to train, to choose and to test on."""

from __future__ import annotations

from modalrank.dataset import Dataset
from modalrank.encoding import Encodings
from modalrank.judged_form import JudgedForm
from modalrank.lists import Progress
from modalrank.log_form import LogForm


def make_form(dataset: Dataset, encodings: Encodings, progress: Progress) -> LogForm | JudgedForm:
    """Return the form that the config names."""
    if dataset.config.data.form == "log":
        return LogForm(dataset, encodings, progress)
    return JudgedForm(dataset, encodings, progress)
