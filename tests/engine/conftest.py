"""The engine's tests keep their machine code to themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of these tests' own: what is tested is code generated now."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("MOBILENETV2_CPU", raising=False)
        patch.delenv("MOBILENETV2_CACHE", raising=False)
        yield folder
