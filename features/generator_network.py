"""The networks of the conditional generator; the only module of features/ that imports torch at its top."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from features.frame import FloatArray

NOISE, WIDTH, BATCH = 16, 128, 128
CRITIC_STEPS, PENALTY = 3, 10.0
RATE, BETAS = 5e-4, (0.0, 0.9)


class Conditional(nn.Module):  # type: ignore[misc]
    """Two hidden layers over an input and its condition."""

    def __init__(self, wide: int, condition: int, tall: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(wide + condition, WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(WIDTH, WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(WIDTH, tall),
        )

    def forward(self, given: Any, condition: Any) -> Any:  # noqa: ANN401 - torch is untyped
        """Return (B, tall) of (B, wide) and (B, condition)."""
        return self.layers(torch.cat([given, condition], dim=1))


def trained(vectors: FloatArray, conditions: FloatArray, *, seed: int, steps: int) -> Any:  # noqa: ANN401
    """Return a generator trained on (n, d) standardised vectors with their (n, width) conditions."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        real, told = torch.from_numpy(vectors), torch.from_numpy(conditions)
        generator = Conditional(NOISE, told.shape[1], real.shape[1])
        critic = Conditional(real.shape[1], told.shape[1], 1)
        makes, judges = (torch.optim.Adam(m.parameters(), RATE, BETAS) for m in (generator, critic))
        for _ in range(steps):
            for _ in range(CRITIC_STEPS):
                rows = torch.randint(len(real), (BATCH,))
                with torch.no_grad():
                    fake = generator(torch.randn(BATCH, NOISE), told[rows])
                gap = critic(fake, told[rows]).mean() - critic(real[rows], told[rows]).mean()
                _stepped(judges, gap + PENALTY * _penalty(critic, real[rows], fake, told[rows]))
            rows = torch.randint(len(real), (BATCH,))
            fake = generator(torch.randn(BATCH, NOISE), told[rows])
            _stepped(makes, -critic(fake, told[rows]).mean())
    return generator.eval()


def sampled(generator: Any, conditions: FloatArray, seed: int) -> FloatArray:  # noqa: ANN401 - torch is untyped
    """Return (n, d) float32 standardised vectors."""
    noise = np.random.default_rng(seed).normal(size=(len(conditions), NOISE)).astype(np.float32)
    with torch.no_grad():
        made: FloatArray = generator(torch.from_numpy(noise), torch.from_numpy(conditions)).numpy()
    return made


@contextmanager
def _one_thread() -> Iterator[None]:
    """Work in one thread, which gives the same bits everywhere and is quickest for networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _penalty(critic: Any, real: Any, fake: Any, told: Any) -> Any:  # noqa: ANN401
    """Return the mean of (|gradient of the critic| - 1)^2 between real and made vectors."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between, told).sum(), between, create_graph=True)
    return ((slope.norm(dim=1) - 1) ** 2).mean()


def _stepped(optimizer: Any, loss: Any) -> None:  # noqa: ANN401
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
