"""Shares cover every row once; a process that runs alone exchanges nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oodml import distributed
from oodml.distributed import ProcessGroup
from oodml.errors import OodmlError


@given(size=st.integers(1, 9), more=st.integers(0, 40))
def test_shares_cover_every_row_once_and_differ_by_one(size: int, more: int) -> None:
    count = size + more
    rows = list(range(count))
    with pytest.MonkeyPatch.context() as patch:
        shares = []
        for rank in range(size):
            patch.setattr(distributed, "_group", ProcessGroup(rank, size))
            shares.append(rows[distributed.own_share(count)])
    assert [row for one in shares for row in one] == rows
    assert {len(one) for one in shares} <= {count // size, count // size + 1}


def test_fewer_rows_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_group", ProcessGroup(0, 4))
    with pytest.raises(OodmlError) as caught:
        distributed.own_share(3)
    assert caught.value.given == 3


def test_batch_norm_that_trains_needs_cuda_or_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    distributed.synchronize_batch_norm(network, torch.device("cpu"))
    monkeypatch.setattr(distributed, "_group", ProcessGroup(0, 2))
    with pytest.raises(OodmlError, match="freeze_batch_norm"):
        distributed.synchronize_batch_norm(network, torch.device("cpu"))
    distributed.synchronize_batch_norm(nn.Sequential(nn.GroupNorm(2, 4)), torch.device("cpu"))


def test_a_process_that_runs_alone_exchanges_nothing() -> None:
    part = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather_features(part, 2) is part
    assert distributed.gather_on_cpu(part, 2) is part
    assert distributed.compute_once(lambda: 7) == distributed.lead_task("task", lambda: 7) == 7
    assert distributed.join_processes("cpu") == "cpu"
    assert distributed.is_leader()
    assert not distributed.is_distributed()
