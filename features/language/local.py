"""A causal language model on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from features.encoders.pretrained import (
    Checkpoint,
    broken_model,
    find_checkpoint,
    load_model,
    quiet_and_offline,
    resolve_torch_device,
)
from features.errors import DataError
from features.language.protocol import Schema

KIND = "language model"
ANSWERS = ("yes", "no")


@dataclass
class LocalModel:
    """Reads the chances of the next tokens off a model; nothing is generated, so any answer is allowed.

    Attributes
    ----------
    model, revision, download, device, half
        As for the encoders of pretrained models.
    longest
        Tokens of a prompt that are read; of a longer one the beginning is cut off.
    """

    model: str
    revision: str | None = None
    download: bool = False
    device: str = "auto"
    half: bool = True
    longest: int = 2048
    _checkpoint: Checkpoint = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._checkpoint = find_checkpoint(KIND, self.model, self.revision, self.download)

    @property
    def digest(self) -> str:
        """Digest of the weights, and how they are used."""
        return f"{self._checkpoint.digest} half={self.half} longest={self.longest}"

    def yes(self, prompt: str) -> float | None:
        """Return P(yes) / (P(yes) + P(no)) of the next token.

        Raises
        ------
        DataError
            If the vocabulary has no token for one of the words.
        """
        chances = np.exp(self._next(self._tokens(prompt)))
        yes, no = (float(chances[list(tokens)].sum()) for tokens in self._answer_tokens)
        return yes / (yes + no) if yes + no > 0 else None

    def choose(self, prompt: str, schema: Schema) -> dict[str, str] | None:
        """Return for every attribute the allowed word whose tokens are likeliest, a token by mean."""
        chosen = {}
        for name, words in schema.items():
            begun = self._tokens(f"{prompt}\n{name}:")
            likelihoods = [self._likelihood(begun, word) for word in words]
            chosen[name] = words[int(np.argmax(likelihoods))]
        return chosen

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401 - transformers' type
        from transformers import AutoTokenizer

        folder = self._checkpoint.folder
        with quiet_and_offline(), broken_model(folder):
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    @cached_property
    def _answer_tokens(self) -> tuple[frozenset[int], ...]:
        """Tokens that are `yes` and `no`, however they are cased and spaced."""
        vocabulary = self._tokenizer.get_vocab()
        decoded = {number: self._tokenizer.decode([number]).strip().lower() for number in vocabulary.values()}
        found = tuple(frozenset(n for n, text in decoded.items() if text == word) for word in ANSWERS)
        for word, tokens in zip(ANSWERS, found, strict=True):
            if not tokens:
                raise DataError(
                    f"the model has no token for {word!r}",
                    fix="choose a model of a language that says yes and no",
                    file=str(self._checkpoint.folder),
                )
        return found

    def _tokens(self, prompt: str) -> list[int]:
        text, special = prompt, True
        if self._tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}]
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            special = False
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])[-self.longest :]

    def _next(self, tokens: Sequence[int]) -> np.ndarray:
        """(n_vocabulary,) float64 log probabilities of the next token."""
        last: np.ndarray = self._log_probabilities(tokens)[-1]
        return last

    def _log_probabilities(self, tokens: Sequence[int]) -> np.ndarray:
        import torch

        device = resolve_torch_device(KIND, self.device)
        model = load_model(self._checkpoint.folder, self._checkpoint.digest, device, self.half, "causal")
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([list(tokens)], device=device)).logits[0]
            values: np.ndarray = torch.log_softmax(logits.double(), dim=-1).cpu().numpy()
        return values

    def _likelihood(self, begun: list[int], word: str) -> float:
        answer = list(self._tokenizer(f" {word}", add_special_tokens=False)["input_ids"])
        chances = self._log_probabilities([*begun, *answer])
        places = range(len(begun) - 1, len(begun) + len(answer) - 1)
        return float(np.mean([chances[place, token] for place, token in zip(places, answer, strict=True)]))
