"""Planted imbalance: what natural sampling ignores, what resampling hears, and that noise is not promoted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ensembles.gate import paired_bootstrap
from ensembles.greedy import GreedySelection
from ensembles.lambdamart import LambdaMART
from ensembles.linear_stack import LinearStack
from ensembles.meta import MetaLearner
from ensembles.samplers import SAMPLERS
from ensembles.samplers import sample as drawn_by
from ensembles.score_frame import ScoreFrame
from ensembles.tuned_fusion import TunedFusion
from rankers.metrics import ndcg

K = 10
SIZE = 20
METAS: dict[str, Callable[[], MetaLearner]] = {
    "greedy": lambda: GreedySelection(K),
    "tuned_fusion": lambda: TunedFusion(K),
    "lambdamart": lambda: LambdaMART(K, threads=1),
    "linear_stack": lambda: LinearStack(),
}


def halves(n_queries: int, seed: int, *, missing: float = 0.7, noise: bool = False) -> ScoreFrame:
    """Text decides the first half of the queries, images the second; a share of candidates has no image."""
    generator = np.random.default_rng(seed)
    n = n_queries * SIZE
    text, image, blur = generator.normal(size=(3, n))
    has_image = generator.random(n) >= missing
    decides = np.where(np.arange(n) < n // 2, text, image) + 0.5 * generator.normal(size=n)
    labels = np.zeros((n_queries, SIZE), dtype=np.float32)
    labels[np.arange(n_queries), decides.reshape(n_queries, SIZE).argmax(axis=1)] = 1.0
    names = ("text", "image", "noise") if noise else ("text", "image")
    columns = [text, np.where(has_image, image + 0.5 * blur, np.nan), generator.normal(size=n)]
    present = np.stack([np.ones(n, dtype=bool), has_image, np.ones(n, dtype=bool)], axis=1)
    return ScoreFrame(
        scores=np.stack(columns[: len(names)], axis=1),
        bases=names,
        labels=labels.ravel(),
        offsets=np.arange(n_queries + 1) * SIZE,
        modalities=names,
        present=present[:, : len(names)],
        base_modality={name: name for name in names},
        context=np.zeros((n, 0), dtype=np.float32),
        context_names=(),
    )


def quality(meta: str, learned: ScoreFrame, judge: ScoreFrame) -> np.ndarray:
    return ndcg(METAS[meta]().fit(learned).score(judge), judge.labels, judge.offsets, K)


@pytest.mark.parametrize("meta", ["greedy", "tuned_fusion", "lambdamart"])
@pytest.mark.parametrize(
    ("sampler", "params"),
    [("pattern_balanced", {"tau": 0.0, "beta": 0.0}), ("shapley", {"kappa": 1.0, "k": K})],
)
def test_rare_images_are_heard(meta: str, sampler: str, params: dict[str, object]) -> None:
    learned, judge = halves(1000, 0), halves(3000, 1)
    natural, resampled = (
        quality(meta, drawn_by(learned, name, given, 0), judge)
        for name, given in (("natural", None), (sampler, params))
    )
    decided_by_seen_images = (np.arange(3000) >= 1500) & judge.present[judge.labels > 0, 1]
    text, image = (ndcg(column, judge.labels, judge.offsets, K) for column in judge.scores.T)
    text, image, natural, resampled = (v[decided_by_seen_images] for v in (text, image, natural, resampled))
    assert len(image) > 300 and image.mean() > text.mean() + 0.6
    # natural sampling goes less than half of the way from the text to the images
    assert natural.mean() - text.mean() < 0.45 * (image.mean() - text.mean())
    gain = paired_bootstrap(resampled, natural)
    assert gain.mean > 0.06 and gain.low > 0.04


@pytest.mark.parametrize("meta", METAS)
@pytest.mark.parametrize("sampler", [*SAMPLERS, "pattern_balanced+shapley"])
def test_noise_that_everything_has_is_not_promoted(meta: str, sampler: str) -> None:
    judge = halves(1500, 1, noise=True)
    with_noise, without = (
        quality(meta, drawn_by(halves(800, 0, noise=noise), sampler, None, 0), judge)
        if noise
        else quality(meta, drawn_by(halves(800, 0), sampler, None, 0), halves(1500, 1))
        for noise in (True, False)
    )
    change = paired_bootstrap(with_noise, without)
    assert change.mean > -0.01
