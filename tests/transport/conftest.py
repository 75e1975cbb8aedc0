from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cvr_plugins.transport import squared_distances


def _uniform_cost(rows: int, columns: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(rows, width, generator=generator, dtype=torch.float64)
    return squared_distances(a, torch.rand(columns, width, generator=generator, dtype=torch.float64))


@pytest.fixture(scope="session")
def uniform_cost() -> Callable[..., Tensor]:
    """Squared distances between uniform points, float64."""
    return _uniform_cost
