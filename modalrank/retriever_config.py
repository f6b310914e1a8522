"""The behaviour retrievers of a config: their kinds, the grids of their settings, and the defaults."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from features.errors import ConfigError
from features.retrievers import check_kind

Grid = dict[str, int | float | list[int | float]]


class RetrieverConfig(BaseModel):
    """One behaviour retriever; of the values that a list names, validation picks one.

    As in scikit-learn's ParameterGrid, `params` is a grid or a list of grids that are tried one after the
    other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    params: Grid | list[Grid] = {}
    depth: int | None = Field(
        None, ge=1, le=10_000, description="items that it adds instead of candidates.per_source"
    )

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        try:
            check_kind(kind)
        except ConfigError as error:
            raise ValueError(f"{error.problem}; {error.fix}") from None
        return kind

    @model_validator(mode="after")
    def _grids_hold_values(self) -> RetrieverConfig:
        empty = [name for grid in self.grids for name, values in grid.items() if values == []]
        if empty:
            raise ValueError(f"the grid of {empty[0]!r} is empty")
        return self

    @property
    def grids(self) -> list[Grid]:
        """Return the grids, of which there is at least one."""
        return (self.params or [{}]) if isinstance(self.params, list) else [self.params]


DEFAULTS = (
    RetrieverConfig(kind="popularity"),
    RetrieverConfig(kind="item_knn", params={"shrink": [0, 10, 100]}),
    RetrieverConfig(kind="user_knn", params={"neighbours": [50, 500]}),
    RetrieverConfig(kind="ease", params={"l2": [50, 300], "min_likes": 2}),
    RetrieverConfig(kind="rp3beta", params={"alpha": 0.8, "beta": [0.0, 0.2, 0.4]}),
    RetrieverConfig(kind="spectral", params={"factors": [64, 128], "user_damping": [0, 0.5]}),
    # Regularization and alpha go together: what counts is how much a pair weighs against the penalty.
    RetrieverConfig(
        kind="als",
        params=[
            {**pair, "factors": [64, 256], "damping": [0, 0.5], "repeats": 3}
            for pair in (
                {"regularization": 30, "alpha": 10},
                {"regularization": 100, "alpha": 40},
                {"regularization": 800, "alpha": 320},
            )
        ],
    ),
)
# What looks at when things happened.
TIMED = (
    RetrieverConfig(kind="recent_popularity", params={"half_life": [0.01, 0.05]}),
    RetrieverConfig(kind="local_popularity"),
    RetrieverConfig(kind="covisitation", params={"window": [5, 20], "last": [10, 50]}),
)
# Where there are splits but no times, the newest split is what is recent. What was liked there is liked next,
# but this source does not tell by whom: rankers choose, among many.
STAGED = (RetrieverConfig(kind="recent_popularity", depth=100),)


def default_retrievers(*, timed: bool, staged: bool) -> tuple[RetrieverConfig, ...]:
    """Return the retrievers of `candidates.retrievers: auto`.

    Parameters
    ----------
    timed
        The interactions have times.
    staged
        The model is to learn from more than one split.
    """
    return (*DEFAULTS, *(TIMED if timed else STAGED if staged else ()))
