"""A process by itself is a team of one; shares cover every row once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oodml import distributed
from oodml.distributed import Team
from oodml.errors import OodmlError


@given(size=st.integers(1, 9), more=st.integers(0, 40))
def test_shares_cover_every_row_once_and_differ_by_one(size: int, more: int) -> None:
    count = size + more
    rows = list(range(count))
    with pytest.MonkeyPatch.context() as patch:
        shares = []
        for rank in range(size):
            patch.setattr(distributed, "_team", Team(rank, size))
            shares.append(rows[distributed.share(count)])
    assert [row for one in shares for row in one] == rows
    assert {len(one) for one in shares} <= {count // size, count // size + 1}


def test_too_few_rows_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_team", Team(0, 4))
    with pytest.raises(OodmlError, match="3 images cannot be shared out to 4 processes"):
        distributed.share(3)


def test_batch_norm_that_trains_needs_cuda_or_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    distributed.synchronise_batch_norm(network, torch.device("cpu"))
    monkeypatch.setattr(distributed, "_team", Team(0, 2))
    with pytest.raises(OodmlError, match="freeze_batch_norm = false needs the statistics"):
        distributed.synchronise_batch_norm(network, torch.device("cpu"))
    distributed.synchronise_batch_norm(nn.Sequential(nn.GroupNorm(2, 4)), torch.device("cpu"))


def test_alone_nothing_is_exchanged() -> None:
    part = torch.ones(2, 3, requires_grad=True)
    assert distributed.gathered(part, 2) is part
    assert distributed.collected(part, 2) is part
    assert distributed.once(lambda: 7) == distributed.led("order", lambda: 7) == 7
    assert distributed.join("cpu") == "cpu"
    assert distributed.leads()
    assert not distributed.several()
