"""The config section of training labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class LabelConfig(BaseModel):
    """How training labels are made out of the training interactions (log form)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["hide", "forward"] = "hide"
    folds: int = Field(3, ge=2, le=20)
    queries: int = Field(6000, ge=20, description="training queries, drawn at random where there are more")
    negatives: Positive | list[Positive] = Field(
        40, description="negatives kept a training query; a list is a grid for validation"
    )
    hard_negatives: Share | list[Share] = Field(
        0.0, description="share of them that the retrievers rank best; the others are drawn at random"
    )

    mixing: Share = Field(
        0.0, description="share of the queries taught again with vectors of near items mixed"
    )
    removal: Share = Field(
        0.0, description="share of queries taught again as if half of the items lacked each modality"
    )
    generated: Share = Field(
        0.0, description="share taught again with missing vectors from a conditional generator (needs torch)"
    )
    synthetic_negatives: int = Field(0, ge=0, le=10_000, description="made items that nobody likes (torch)")

    @model_validator(mode="after")
    def _grids_hold_values(self) -> LabelConfig:
        if [] in (self.negatives, self.hard_negatives):
            raise ValueError("the grid of 'negatives' or 'hard_negatives' is empty")
        return self
