from __future__ import annotations

import ctypes
import logging

import catboost.utils
import pytest
import xgboost

from features.errors import DataError
from rankers import device, mean_of, ndcg
from rankers.device import CATBOOST_CUDA_LARGEST_QUERY, Device, cuda_device_count, resolve_device
from tests.rankers.planted import planted_frame, quick_ranker


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(device, "cuda_device_count", lambda: 1)
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": True})
    monkeypatch.setattr(catboost.utils, "get_gpu_device_count", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(device, "cuda_device_count", lambda: 0)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "catboost", "linear"])
def test_resolve_device_cpu_is_cpu(library, one_gpu):
    assert resolve_device("cpu", library).name == "cpu"


@pytest.mark.parametrize("library", ["xgboost", "catboost"])
@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_resolve_device_with_a_gpu_is_cuda(requested, library, one_gpu):
    assert resolve_device(requested, library).name == "cuda"


@pytest.mark.parametrize("library", ["xgboost", "catboost", "torch"])
def test_resolve_device_without_a_gpu_auto_is_cpu_and_cuda_raises(library, no_gpu):
    assert resolve_device("auto", library) == Device("cpu", "no CUDA device was found")
    with pytest.raises(DataError, match=f"{library} cannot train on cuda: no CUDA device was found; fix: "):
        resolve_device("cuda", library)


def test_resolve_device_lightgbm_never_on_cuda(one_gpu):
    chosen = resolve_device("auto", "lightgbm")
    assert chosen.name == "cpu"
    assert "wrong discount" in chosen.reason
    with pytest.raises(DataError, match=r"lightgbm cannot train on cuda: .*wrong discount"):
        resolve_device("cuda", "lightgbm")


@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_resolve_device_linear_is_always_cpu(requested, one_gpu):
    assert resolve_device(requested, "linear").name == "cpu"


def test_resolve_device_xgboost_built_without_cuda_is_cpu(one_gpu, monkeypatch):
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": False})
    assert resolve_device("auto", "xgboost").name == "cpu"
    with pytest.raises(DataError, match="has no CUDA"):
        resolve_device("cuda", "xgboost")


def test_resolve_device_catboost_that_sees_no_gpu_is_cpu(one_gpu, monkeypatch):
    monkeypatch.setattr(catboost.utils, "get_gpu_device_count", lambda: 0)
    assert resolve_device("auto", "catboost").name == "cpu"
    with pytest.raises(DataError, match="catboost sees no CUDA device"):
        resolve_device("cuda", "catboost")


def test_resolve_device_catboost_query_too_long_for_cuda_is_cpu(one_gpu):
    assert resolve_device("auto", "catboost", CATBOOST_CUDA_LARGEST_QUERY).name == "cuda"
    assert resolve_device("auto", "catboost", CATBOOST_CUDA_LARGEST_QUERY + 1).name == "cpu"
    with pytest.raises(DataError, match="a query has 1024 rows, at most 1023"):
        resolve_device("cuda", "catboost", CATBOOST_CUDA_LARGEST_QUERY + 1)


def test_resolve_device_logs_the_choice_with_its_reason(no_gpu, caplog):
    with caplog.at_level(logging.INFO, logger="rankers.device"):
        resolve_device("auto", "xgboost")
    assert caplog.messages == ["xgboost trains on cpu: no CUDA device was found"]


def test_cuda_device_count_without_a_driver_is_zero(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert cuda_device_count() == 0


@pytest.mark.parametrize(("init", "status", "expected"), [(0, 0, 3), (100, 0, 0), (0, 1, 0)])
def test_cuda_device_count_asks_the_driver(init, status, expected, monkeypatch):
    class Driver:
        def cuInit(self, flags):
            return init

        def cuDeviceGetCount(self, count):
            count._obj.value = 3
            return status

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert cuda_device_count() == expected


@pytest.mark.gpu
@pytest.mark.skipif(cuda_device_count() == 0, reason="no CUDA device was found")
@pytest.mark.parametrize(
    ("family", "objective"),
    [
        ("xgboost", "rank:ndcg"),
        ("xgboost", "rank:pairwise"),
        ("catboost", "YetiRank"),
        ("catboost", "QueryRMSE"),
        ("catboost", "QuerySoftMax"),
    ],
)
def test_fit_on_cuda_finds_the_planted_answer_and_stops_early(family, objective):
    test = planted_frame(30, seed=3)
    ranker = quick_ranker(family, objective, device="cuda").fit(
        planted_frame(seed=1), planted_frame(30, seed=2)
    )
    assert 1 <= ranker.best_rounds_ <= 40
    assert mean_of(ndcg(ranker.score(test), test.labels, test.offsets, k=5)).mean > 0.85
