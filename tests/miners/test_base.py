import torch
from hypothesis import given
from hypothesis import strategies as st

from oodml.miners._base import draw


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 7.0]), min_size=1, max_size=9),
    uniform=st.one_of(st.floats(0, 1, exclude_max=True, width=32), st.just(1 - 2**-24)),
)
def test_only_weighted_columns_are_drawn(weights: list[float], uniform: float) -> None:
    table = torch.tensor([weights])
    chosen = int(draw(table, torch.tensor([uniform])))
    if table.sum() > 0:
        assert weights[chosen] > 0
    assert 0 <= chosen < len(weights)


def test_draws_are_as_frequent_as_their_weights() -> None:
    uniform = (torch.arange(1000) + 0.5) / 1000
    counts = draw(torch.tensor([[1.0, 0.0, 3.0, 6.0]]).expand(1000, -1), uniform).bincount()
    assert counts.tolist() == [100, 0, 300, 600]
