import torch

import oodml


def test_nearest_positive_and_nearest_farther_negative() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [1.5], [0.4], [9.0]])
    y = torch.tensor([0, 0, 0, 1, 2, 1])
    generator = torch.Generator().manual_seed(0)
    triplets = oodml.load("miners", "easy_positive_semihard")(x, y, generator)
    assert triplets[:3].tolist() == [[0, 1, 3], [1, 0, 5], [2, 1, 4]]
    nearest = oodml.load("miners", "easy_positive")(x, y, generator)
    assert nearest[:3, :2].tolist() == [[0, 1], [1, 0], [2, 1]]


def test_anchors_whose_negatives_are_all_nearer_are_skipped() -> None:
    x, y = torch.tensor([[0.0], [5.0], [1.0]]), torch.tensor([0, 0, 1])
    triplets = oodml.load("miners", "easy_positive_semihard")(x, y, torch.Generator())
    assert triplets.tolist() == []
