"""The model as MLflow logs it: this file is its code, the bundle folder its data, and no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class ModalrankModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Scores a table of `query`, `item` and, for judged models, the ready-made features."""

    def load_context(self, context: Any) -> None:  # noqa: ANN401 - MLflow's own type
        """Read the bundle and check that its files are the ones that were saved."""
        from modalrank.bundle import Bundle

        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    # A type hint on the input would make MLflow replace the logged signature by its own.
    def predict(self, context: Any, model_input, params: Any = None) -> pd.DataFrame:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN401
        """Return query, item, score, rank, modalities used and fallback, sorted by query and rank."""
        from modalrank.scoring import candidates_of, score_table

        return score_table(self.bundle, candidates_of(self.bundle, model_input)).to_pandas()


mlflow.models.set_model(ModalrankModel())
