from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oodml.backbones import Backbone, load_backbone
from oodml.backbones.bninception import BLOCKS, BNInception
from oodml.errors import OodmlError


@pytest.fixture(scope="module")
def untrained() -> Backbone:
    return load_backbone("bninception", "none").eval()


def test_it_has_the_published_size(untrained: Backbone) -> None:
    """11,295,240 parameters with a classifier of 1,000 classes: the published network."""
    counted = sum(parameter.numel() for parameter in untrained.parameters())
    assert counted == 11_295_240 - 1_000 * (1024 + 1)


def test_maps_and_gradient(untrained: Backbone) -> None:
    output = untrained(torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert output.shape == (2, untrained.features, 7, 7)
    output.square().mean().backward()
    first = untrained.network.get_submodule("conv1_7x7_s2").weight
    assert isinstance(first, Tensor)
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_pixels_are_blue_green_red_less_their_means() -> None:
    """The first convolution sees 255·x − mean in the order blue, green, red."""
    backbone = load_backbone("bninception", "none").eval()
    first = backbone.network.get_submodule("conv1_7x7_s2")
    seen: list[Tensor] = []
    first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    backbone(images)
    for channel, (source, mean) in enumerate([(2, 104), (1, 117), (0, 128)]):
        expected = 255 * images[:, source] - mean
        torch.testing.assert_close(seen[0][:, channel], expected, rtol=1e-5, atol=1e-3)


def test_a_block_concatenates_its_four_paths() -> None:
    """Block 4a equals plain modules with the same weights."""
    network = BNInception().eval()
    x = torch.randn(1, 576, 14, 14, generator=torch.Generator().manual_seed(1))

    def path(*names: str) -> nn.Sequential:
        layers: list[nn.Module] = []
        for name in names:
            layer = network.get_submodule(f"inception_4a_{name}")
            layers += [layer, network.get_submodule(f"inception_4a_{name}_bn"), nn.ReLU()]
        return nn.Sequential(*layers)

    pool = nn.AvgPool2d(3, 1, 1, ceil_mode=True, count_include_pad=True)
    parts = [
        path("1x1")(x),
        path("3x3_reduce", "3x3")(x),
        path("double_3x3_reduce", "double_3x3_1", "double_3x3_2")(x),
        path("pool_proj")(pool(x)),
    ]
    torch.testing.assert_close(network._block("4a", x), torch.cat(parts, 1))


def published_names() -> set[str]:
    """The names of the tensors in the published file."""
    layers = ["conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3"]
    for block in BLOCKS:
        names = ["3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2"]
        if block not in ("3c", "4e"):
            names += ["1x1", "pool_proj"]
        layers += [f"inception_{block}_{name}" for name in names]
    ends = ("weight", "bias", "running_mean", "running_var")
    names = {f"{layer}.{end}" for layer in layers for end in ends[:2]}
    names |= {f"{layer}_bn.{end}" for layer in layers for end in ends}
    return names | {"last_linear.weight", "last_linear.bias"}


def test_weights_of_the_published_names_are_loaded(tmp_path: Path) -> None:
    shapes = {key: value.shape for key, value in BNInception().state_dict().items()}
    random = torch.Generator().manual_seed(0)
    classifier = {"last_linear.weight": (1000, 1024), "last_linear.bias": (1000,)}
    state = {
        name: torch.rand(shapes.get(name, classifier.get(name, ())), generator=random)
        for name in published_names()
    }
    assert set(shapes) - set(state) == {key for key in shapes if "num_batches" in key}
    file = tmp_path / "bn_inception-52deb4733.pth"
    torch.save(state, file)
    loaded = load_backbone("bninception", str(file)).network.state_dict()
    for name in set(state) & set(loaded):
        assert torch.equal(loaded[name], state[name])
    del state["inception_5b_3x3.weight"]
    torch.save(state, file)
    with pytest.raises(OodmlError, match="inception_5b_3x3"):
        load_backbone("bninception", str(file))


def test_without_weights_the_error_names_the_file() -> None:
    with pytest.raises(OodmlError, match="bn_inception-52deb4733.pth"):
        load_backbone("bninception")
