from __future__ import annotations

import numpy as np

from features.history import History
from features.retrievers import ProjectionRetriever
from tests.features.planted import history_of

# User 0 likes items 0 and 1, user 1 the absent item 3 too, user 2 that one only.
LIKES = [(0, 0, 1.0, 0), (0, 1, 1.0, 0), (1, 1, 1.0, 0), (1, 3, 1.0, 0), (2, 3, 1.0, 0)]
EVERYBODY = np.arange(3)


def likes(n_items: int) -> History:
    return history_of(LIKES, 3, n_items)


def test_projection_likes_power_divides_by_the_known_likes():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 5, 4)).astype(np.float32)
    known = np.array([True, True, True, False, True])
    total, mean, root = (
        ProjectionRetriever("p", "behaviour", source, target, known, power).scores(likes(5), EVERYBODY)
        for power in (0.0, 1.0, 0.5)
    )
    np.testing.assert_allclose(mean[0], total[0] / 2, rtol=1e-6)
    np.testing.assert_allclose(root[0], total[0] / 2**0.5, rtol=1e-6)
    np.testing.assert_array_equal(mean[1], total[1])
    expected = (source[0] + source[1]) @ target.T
    np.testing.assert_allclose(total[0, known], expected[known], rtol=1e-5)
