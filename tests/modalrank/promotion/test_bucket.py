"""The same with the artefacts in a bucket."""

from __future__ import annotations

import mlflow

from tests.modalrank.promotion.conftest import whole_round
from tests.modalrank.promotion.servers import bucket


def test_train_promote_score_and_roll_back_from_a_bucket(empty_store, log_result, cli, monkeypatch, tmp_path):
    config = log_result.dataset.config
    tracking = config.tracking.model_copy(update={"experiment": "in a bucket"})
    config = config.model_copy(update={"tracking": tracking})
    with bucket("shop") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        client = mlflow.MlflowClient(empty_store, empty_store)
        client.create_experiment("in a bucket", artifact_location="s3://shop/mlflow")
        whole_round(log_result, cli, empty_store, config, tmp_path)
