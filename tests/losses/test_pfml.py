import pytest

import oodml
from tests.losses.loops import sample


def test_a_loop_over_pairs_of_points() -> None:
    x, y = sample()
    options = {"n_classes": 4, "dim": 5, "proxies": 2, "alpha": 3.0, "delta": 0.9}
    loss = oodml.load("losses", "pfml", **options).double()
    vectors = loss.vectors.detach()
    points = [*x, *(vector / vector.norm() for vector in vectors)]
    classes = [*y.tolist(), *(row % 4 for row in range(len(vectors)))]
    attraction, repulsion = [], []
    for i in range(len(points)):
        for j in range(len(points)):
            distance = float((points[i] - points[j]).norm())
            if i != j and classes[i] == classes[j]:
                attraction.append(-(max(distance, 0.9) ** -3))
            elif i != j:
                repulsion.append(min(distance, 0.9) ** -3)
    expected = sum(attraction) / len(attraction) + sum(repulsion) / len(repulsion)
    assert loss(x, y).item() * 0.9**-3 == pytest.approx(expected, rel=1e-6)


def test_no_force_within_delta_of_the_class_nor_beyond_it_for_other_classes() -> None:
    x, y = sample()
    for delta, kind in ((3.0, y[:, None] == y), (1e-3, y[:, None] != y)):
        loss = oodml.load("losses", "pfml", n_classes=4, dim=5, delta=delta).double()
        points = x.clone().requires_grad_()
        none = kind & False
        pairs = (kind, none) if delta > 1 else (none, kind)
        kind.fill_diagonal_(False)
        loss.energy(points, *pairs).backward()
        assert points.grad is None or points.grad.abs().max() == 0
