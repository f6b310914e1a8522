"""What holds for all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_vector_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep vectors in a folder of this session, never in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALRANK_CACHE", str(tmp_path_factory.mktemp("vector_cache")))
        yield
