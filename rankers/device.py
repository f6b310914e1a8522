"""Where a library trains: resolved once, with the reason."""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from typing import Literal

from features.errors import DataError

DeviceName = Literal["auto", "cpu", "cuda"]
Library = Literal["lightgbm", "xgboost", "catboost", "linear", "torch"]

CATBOOST_CUDA_LARGEST_QUERY = 1023

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """The device that was chosen and why."""

    name: Literal["cpu", "cuda"]
    reason: str


def resolve_device(requested: DeviceName, library: Library, largest_query: int = 0) -> Device:
    """Choose the device that `library` trains on and log it with its reason.

    `largest_query` is the number of rows of the largest training query, which limits CatBoost on CUDA.

    Raises
    ------
    DataError
        If `cuda` is asked for and this library cannot use it here.
    """
    device = _resolve(requested, library, largest_query)
    logger.info("%s trains on %s: %s", library, device.name, device.reason)
    return device


def cuda_device_count() -> int:
    """Count the CUDA devices that the driver shows to this process, 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _resolve(requested: DeviceName, library: Library, largest_query: int) -> Device:
    if library == "linear":
        return Device("cpu", "the linear ranker has no CUDA implementation")
    if requested == "cpu":
        return Device("cpu", "asked for")
    obstacle = _obstacle_to_cuda(library, largest_query)
    if obstacle is None:
        return Device("cuda", "a CUDA device was found" if requested == "auto" else "asked for")
    if requested == "cuda":
        raise DataError(f"{library} cannot train on cuda: {obstacle.problem}", fix=obstacle.fix)
    return Device("cpu", obstacle.problem)


@dataclass(frozen=True)
class _Obstacle:
    problem: str
    fix: str


def _obstacle_to_cuda(library: Library, largest_query: int) -> _Obstacle | None:
    """Return what stops the library from CUDA, None if nothing does."""
    if library == "lightgbm":
        return _Obstacle(
            "its CUDA ranking objectives use a wrong discount (LightGBM#6847)",
            "set the device to cpu or auto, or choose xgboost or catboost",
        )
    if cuda_device_count() == 0:
        return _Obstacle(
            "no CUDA device was found",
            "set the device to cpu or auto, or install the NVIDIA driver and check CUDA_VISIBLE_DEVICES",
        )
    if library == "xgboost":
        return _obstacle_of_xgboost()
    if library == "torch":
        return _obstacle_of_torch()
    return _obstacle_of_catboost(largest_query)


def _obstacle_of_xgboost() -> _Obstacle | None:
    import xgboost

    # The CPU-only wheel accepts device="cuda" and trains on the CPU without a word.
    if xgboost.build_info()["USE_CUDA"]:
        return None
    return _Obstacle("this build of xgboost has no CUDA", "set the device to cpu, or install a CUDA build")


def _obstacle_of_torch() -> _Obstacle | None:
    import torch

    if torch.cuda.is_available():
        return None
    return _Obstacle(
        "this build of torch sees no CUDA device", "set the device to cpu, or install a CUDA build"
    )


def _obstacle_of_catboost(largest_query: int) -> _Obstacle | None:
    from catboost.utils import get_gpu_device_count

    if get_gpu_device_count() == 0:
        return _Obstacle(
            "this build of catboost sees no CUDA device",
            "set the device to cpu, or install a CUDA build and a recent driver",
        )
    if largest_query > CATBOOST_CUDA_LARGEST_QUERY:
        return _Obstacle(
            f"a query has {largest_query} rows, at most {CATBOOST_CUDA_LARGEST_QUERY} are possible on CUDA",
            "set the device to cpu, or keep fewer candidates a query",
        )
    return None
