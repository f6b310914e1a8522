"""The two baselines: every query once, and as many queries of every kind."""

from __future__ import annotations

import numpy as np

from ensembles.samplers.draw import Draw, availability_patterns, best_positives, systematic, trainable
from ensembles.score_frame import ScoreFrame


def natural(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
    """Draw every query that has a positive once, with all its candidates."""
    queries, n_dropped = trainable(frame)
    return Draw.unweighted(queries, n_dropped=n_dropped)


def class_balanced(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
    """Draw as many queries of every availability pattern of the positive, however rare it is.

    The textbook's random oversampling of small classes (He and Garcia, IEEE TKDE 2009), with the pattern as
    the class. The candidates stay as they are, so that the availability bits of the resampled positives
    may give the label away: the baseline that `pattern_balanced` is measured against.
    """
    queries, n_dropped = trainable(frame)
    patterns = availability_patterns(frame.present)[best_positives(frame, queries, generator)]
    _, code, count = np.unique(patterns, return_inverse=True, return_counts=True)
    sizes = frame.group_sizes[queries]
    drawn = queries[systematic(1.0 / count[code], patterns, sizes, sizes.sum(), generator)]
    return Draw.unweighted(drawn, n_dropped=n_dropped)
