"""A small transformer over the last items of a user, which reranks the user's candidates."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.errors import ConfigError
from features.frame import IntArray, RankingFrame
from rankers.checks import check_scorable, fitted, has_contrast
from rankers.device import DeviceName, resolve_device
from rankers.linear_ranker import Standardiser
from rankers.metrics import mean_of, ndcg
from rankers.protocol import OnRound
from rankers.storage import Manifest, constructor_parameters, read_manifest, write_manifest
from rankers.training import prepare
from rankers.transformer_inputs import Inputs, TokenAxes, read_inputs

MODEL_FILE = "model.safetensors"
# Padded rows of a training batch, and the shape (lists, rows) in which everything is scored.
BATCH_ROWS = 16_384
TILE = (16, 64)
# What the extra `neural` installs.
LIBRARIES = ("safetensors", "torch")

logger = logging.getLogger(__name__)


@dataclass
class TransformerRanker:
    """Attention of candidates to the last items of the user, trained by a softmax over the list.

    The last items and the candidate are told by one token a modality (`frame.sequences`), the candidate
    by the features of its row as well. A frame without sequences is ranked by its features alone.

    Parameters
    ----------
    rounds, patience
        Passes over the queries, and how many may go by without a better NDCG@k on `valid` before training
        stops.
    k
        Cutoff of that NDCG.
    learning_rate, weight_decay
        Of AdamW (Loshchilov and Hutter, ICLR 2019).
    batch
        Queries a step.
    width, heads
        Of a token, and of the attention; heads divide the width.
    length
        Last items that are looked at, as far as the frame tells them.
    dropout
        Share of the hidden values that a training step does not see.
    threads
        Of scoring, 0 means all; training takes one, so that the model does not depend on their number.
    """

    family: ClassVar[str] = "transformer"
    objectives: ClassVar[tuple[str, ...]] = ("softmax",)

    objective: Literal["softmax"] = "softmax"
    rounds: int = 30
    patience: int = 3
    k: int = 10
    learning_rate: float = 0.001
    weight_decay: float = 0.1
    batch: int = 64
    width: int = 32
    heads: int = 2
    length: int = 10
    dropout: float = 0.2
    seed: int = 0
    device: DeviceName = "auto"
    threads: int = 0

    on_round: OnRound | None = field(default=None, init=False, repr=False, compare=False)
    feature_names_: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    best_rounds_: int | None = field(default=None, init=False, repr=False)
    standardiser_: Standardiser | None = field(default=None, init=False, repr=False, compare=False)
    axes_: TokenAxes | None = field(default=None, init=False, repr=False, compare=False)
    network_: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(
                f"transformer.width: got {self.width}, expected a multiple of the {self.heads} heads",
                fix="change transformer.width or transformer.heads",
            )

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from labelled queries, stopping early on `valid`.

        Raises
        ------
        DataError
            As `check_trainable`, or if `valid` has other sequences.
        ConfigError
            If torch is not installed.
        """
        torch = require_torch("the ranker 'transformer'")
        device = resolve_device(self.device, "torch").name
        train, valid = prepare(train, valid)
        with threadpool_limits(1, user_api="blas"):
            self.standardiser_ = Standardiser.of(train.features)
            self.axes_ = TokenAxes.of(train.sequences, self.length)
            data = read_inputs(train, self.standardiser_, self.axes_)
        judge = None if valid is None else read_inputs(valid, self.standardiser_, self.axes_)
        with _settled(torch, self.seed, threads=1):
            network = self._made(data.dense.shape[1]).to(device)
            optimizer = torch.optim.AdamW(
                network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
            )
            best, best_value = None, -np.inf
            for number in range(1, self.rounds + 1):
                self._pass(network, optimizer, train, _on(data, device), number)
                if valid is None or judge is None:
                    self.best_rounds_ = number
                    continue
                scores = _scores(network, valid, judge, device)
                value = mean_of(ndcg(scores, valid.labels, valid.offsets, self.k)).mean
                if self.on_round is not None:
                    self.on_round(number, value)
                if value > best_value:
                    best, best_value, self.best_rounds_ = _state(network), value, number
                elif number - (self.best_rounds_ or 0) >= self.patience:
                    break
        # A fitted ranker is the same thing as a loaded one, and scores on the CPU wherever it was trained.
        self.network_ = self._restored(data.dense.shape[1], best or _state(network))
        self.feature_names_ = train.feature_names
        logger.info("transformer: %d rounds on %d queries", self.best_rounds_, train.n_queries)
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError if features or sequences are not those of `fit`."""
        check_scorable(frame, fitted(self.feature_names_, self.family))
        if frame.n_rows == 0:
            return np.zeros(0)
        data = read_inputs(frame, fitted(self.standardiser_, self.family), fitted(self.axes_, self.family))
        with _settled(require_torch("the ranker 'transformer'"), self.seed, self.threads):
            return _scores(self.network_, frame, data, "cpu")

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and the arrays, as safetensors, into an existing folder."""
        names = fitted(self.feature_names_, self.family)
        from safetensors.numpy import save_file

        axes = fitted(self.axes_, self.family)
        learned = {"feature_names": list(names), "best_rounds": self.best_rounds_, "axes": axes.described()}
        write_manifest(folder, Manifest(self.family, constructor_parameters(self), learned))
        standardiser = vars(fitted(self.standardiser_, self.family))
        arrays = {f"network.{name}": values for name, values in _state(self.network_).items()}
        arrays |= {f"standardiser.{name}": values for name, values in standardiser.items()} | axes.arrays()
        save_file(
            {name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / MODEL_FILE
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raises ConfigError if torch is not installed."""
        manifest = read_manifest(folder, cls.family)
        require_torch("this model holds a transformer, which")
        from safetensors.numpy import load_file

        arrays = load_file(folder / MODEL_FILE)
        ranker = cls(**manifest.parameters)
        ranker.feature_names_ = tuple(manifest.learned["feature_names"])
        ranker.best_rounds_ = manifest.learned["best_rounds"]
        ranker.axes_ = TokenAxes.from_arrays(manifest.learned["axes"], arrays)
        ranker.standardiser_ = Standardiser(**_under("standardiser.", arrays))
        state = _under("network.", arrays)
        ranker.network_ = ranker._restored(state["dense.weight"].shape[1], state)
        return ranker

    def _made(self, dense: int) -> Any:  # noqa: ANN401 - torch is untyped
        from rankers.transformer_network import Network

        axes = fitted(self.axes_, self.family)
        places = axes.length if axes.ordered else 0
        return Network(dense, len(axes.modalities), places, self.width, self.heads, self.dropout)

    def _restored(self, dense: int, state: dict[str, NDArray[Any]]) -> Any:  # noqa: ANN401
        import torch

        with torch.random.fork_rng():
            network = self._made(dense)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in state.items()})
        # What a product rounds in float64 by the shape of the batch is not seen in a float32 score.
        return network.double().eval()

    def _pass(
        self,
        network: Any,  # noqa: ANN401
        optimizer: Any,  # noqa: ANN401
        frame: RankingFrame,
        data: dict[str, Any],
        number: int,
    ) -> None:
        import torch

        from rankers.transformer_network import listwise_loss

        network.train()
        rng = np.random.default_rng([self.seed, number])
        queries = rng.permutation(np.flatnonzero(has_contrast(frame)))
        weights = np.ones(frame.n_queries, np.float32) if frame.query_weights is None else frame.query_weights
        gains = np.append(frame.labels, np.float32(0))
        device = data["dense"].device
        for lists in _batches(queries, frame.group_sizes, self.batch):
            rows = _padded(frame.offsets[lists], frame.offsets[lists + 1], frame.n_rows)
            scores = network(*_looked_up(data, torch.from_numpy(rows), torch.from_numpy(lists)))
            padding = torch.from_numpy(rows == frame.n_rows).to(device)
            loss = listwise_loss(
                scores.masked_fill(padding, -1e9),
                torch.from_numpy(gains[rows]).to(device),
                torch.from_numpy(weights[lists]).to(device),
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def require_torch(what: str, instead: str = "leave the transformer out") -> Any:  # noqa: ANN401 - untyped
    """Return torch; raises ConfigError where it is not installed, with what else can be done."""
    try:
        torch, _ = (import_module(name) for name in ("torch", "safetensors"))
    except ImportError as error:
        raise ConfigError(
            f"{what} needs {error.name}, which is not installed",
            fix=f"pip install torch==2.13.0 safetensors, or {instead}",
        ) from error
    return torch


@contextmanager
def _settled(torch: Any, seed: int, threads: int) -> Iterator[None]:  # noqa: ANN401
    """Give torch a seed and a number of threads, and put both back."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _batches(queries: IntArray, sizes: IntArray, most: int) -> Iterator[IntArray]:
    """Yield queries in order, at most `most` at once and within BATCH_ROWS when padded, or a single one."""
    start = 0
    while start < len(queries):
        longest = np.maximum.accumulate(sizes[queries[start : start + most]])
        padded = longest * np.arange(1, len(longest) + 1)
        stop = start + max(1, int((padded <= BATCH_ROWS).sum()))
        yield queries[start:stop]
        start = stop


def _padded(starts: IntArray, stops: IntArray, padding: int, width: int | None = None) -> IntArray:
    """Return (n, width) row numbers from each start to its stop, filled up with `padding`."""
    places = np.arange(width or int((stops - starts).max()))
    rows = starts[:, None] + places
    return np.where(rows < stops[:, None], rows, padding)


def _on(data: Inputs, device: str) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array).to(device) for name, array in vars(data).items()}


def _looked_up(data: dict[str, Any], rows: Any, lists: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the arguments of the network for (B, C) rows of B lists."""
    device = data["dense"].device
    rows, lists = rows.to(device), lists.to(device)
    own, told = data["candidates"][rows], data["recent"][lists]
    return (
        data["dense"][rows],
        data["tokens"][own],
        data["tokens"][told],
        data["present"][told],
    )


def _scores(network: Any, frame: RankingFrame, data: Inputs, device: str) -> NDArray[np.float64]:  # noqa: ANN401
    """Return (n_rows,) scores, made in tiles of one shape whatever the frame, and rounded to float32."""
    import torch

    network.eval()
    dtype = next(network.parameters()).dtype
    held = _on(data, device)
    n_lists, width = TILE
    pieces = -(-frame.group_sizes // width)
    queries = np.repeat(np.arange(frame.n_queries), pieces)
    nth = np.arange(len(queries)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    rows = _padded(frame.offsets[queries] + width * nth, frame.offsets[queries + 1], frame.n_rows, width)
    missing = -len(rows) % n_lists
    rows = np.pad(rows, ((0, missing), (0, 0)), constant_values=frame.n_rows)
    queries = np.pad(queries, (0, missing))
    scores = np.zeros(frame.n_rows + 1)
    with torch.no_grad():
        for start in range(0, len(rows), n_lists):
            here = rows[start : start + n_lists]
            lists = torch.from_numpy(queries[start : start + n_lists])
            given = _looked_up(held, torch.from_numpy(here), lists)
            tile = network(*(array.to(dtype) for array in given))
            scores[here] = tile.float().cpu().numpy()
    return scores[:-1]


def _state(network: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    return {
        name: values.detach().float().cpu().numpy().copy() for name, values in network.state_dict().items()
    }


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
