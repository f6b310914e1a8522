"""The network of the transformer ranker; the only module of rankers/ that imports torch at its top."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from rankers.transformer_inputs import TOKEN_WIDTH


class Attention(nn.Module):  # type: ignore[misc]
    """A pre-norm block of attention and a feed-forward layer (Vaswani et al., NeurIPS 2017).

    Without `residual` it tells what was found and forgets who asked; nothing is found at the first place.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, residual: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.residual = heads, dropout, residual
        self.norm_query, self.norm_key = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.forward_layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, asking: Any, told: Any, mask: Any) -> Any:  # noqa: ANN401
        """Return (B, n, width) what `asking` learns of `told` (B, m, width), where mask (B, m) is 1."""
        query = self._split(self.query(self.norm_query(asking)))
        normed = self.norm_key(told)
        key, value = self._split(self.key(normed)), self._split(self.value(normed))
        if not self.residual:
            value = torch.cat([torch.zeros_like(value[:, :, :1]), value[:, :, 1:]], dim=2)
        logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = (logits + torch.log(mask)[:, None, None, :]).softmax(dim=-1)
        found = (weights @ value).transpose(1, 2).reshape(asking.shape)
        learned = self._dropped(self.out(found)) + (asking if self.residual else 0.0)
        return learned + self._dropped(self.forward_layers(learned))

    def _split(self, rows: Any) -> Any:  # noqa: ANN401
        batch, n, width = rows.shape
        return rows.view(batch, n, self.heads, width // self.heads).transpose(1, 2)

    def _dropped(self, rows: Any) -> Any:  # noqa: ANN401
        return functional.dropout(rows, self.dropout, self.training)


class Network(nn.Module):  # type: ignore[misc]
    """Scores candidates of a user by the features of the row and by attention to the user's last items.

    Each last item is one token a modality; the tokens attend to each other, then every candidate, the sum
    of its own tokens and features, asks them. A token of its own stands for "none of them". What an item is
    like counts only by what it finds in the history, for else the network learns items by heart. Candidates
    do not see each other, so that the score of a row does not depend on the list.
    """

    def __init__(
        self, dense: int, modalities: int, places: int, width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.wide, self.dense = nn.Linear(dense, 1), nn.Linear(dense, width)
        self.has_tokens = modalities > 0
        if self.has_tokens:
            scale = TOKEN_WIDTH**-0.5
            self.token_weight = nn.Parameter(scale * torch.randn(modalities, TOKEN_WIDTH, width))
            self.candidate_weight = nn.Parameter(self.token_weight.detach().clone())
            self.kind = nn.Parameter(0.1 * torch.randn(modalities, width))
            # Without an order in time all places are alike.
            self.place = nn.Parameter(0.1 * torch.randn(max(places, 1), 1, width))
            self.nothing = nn.Parameter(0.1 * torch.randn(1, 1, width))
            self.among = Attention(width, heads, dropout, residual=True)
            self.asked = Attention(width, heads, dropout, residual=False)
            self.match = _head(2 * width, width)
        self.head = _head(width, width)

    def forward(self, dense: Any, own: Any, told: Any, told_present: Any) -> Any:  # noqa: ANN401
        """Return (B, C) scores.

        Parameters
        ----------
        dense
            (B, C, n_dense) features of the candidates.
        own
            (B, C, M, TOKEN_WIDTH) tokens of the candidates, zeros where a modality is absent.
        told, told_present
            (B, L, M, TOKEN_WIDTH) the same of the last items, and (B, L, M) 1 where they are there.
        """
        hidden = functional.dropout(self.dense(dense), self.dropout, self.training)
        scores = self.wide(dense) + self.head(hidden)
        if self.has_tokens:
            batch = dense.shape[0]
            own, told = self._some(own), self._some(told)
            item = torch.einsum("bcmp,mpw->bcw", own, self.candidate_weight)
            tokens = torch.einsum("blmp,mpw->blmw", told, self.token_weight) + self.kind + self.place
            tokens = torch.cat([self.nothing.expand(batch, 1, -1), tokens.flatten(1, 2)], dim=1)
            there = told_present.flatten(1, 2)
            mask = torch.cat([there.new_ones(batch, 1), there], dim=1)
            tokens = self.among(tokens, tokens, mask)
            found = self.asked(hidden + item, tokens, mask)
            scores = scores + self.match(torch.cat([found, found * item], dim=-1))
        return scores.squeeze(-1)

    def _some(self, tokens: Any) -> Any:  # noqa: ANN401
        """Leave out whole tokens in training, so that no modality is leant on alone."""
        if not self.training:
            return tokens
        return tokens * functional.dropout(tokens.new_ones(*tokens.shape[:-1], 1), self.dropout)


def _head(read: int, width: int) -> Any:  # noqa: ANN401
    return nn.Sequential(nn.LayerNorm(read), nn.Linear(read, width), nn.GELU(), nn.Linear(width, 1))


def listwise_loss(scores: Any, gains: Any, weights: Any) -> Any:  # noqa: ANN401
    """Return the softmax cross-entropy over lists (ListNet's top-one loss, Cao et al., ICML 2007).

    Parameters
    ----------
    scores
        (B, C), -inf where the list has no row.
    gains
        (B, C) non-negative, 0 where there is no row; a list without any gain says nothing.
    weights
        (B,) of the lists.
    """
    share = gains / gains.sum(dim=1, keepdim=True).clamp_min(1e-9)
    chance = torch.log_softmax(scores, dim=1).masked_fill(gains == 0, 0.0)
    return -(weights * (share * chance).sum(dim=1)).sum() / len(scores)
