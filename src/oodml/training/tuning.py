"""Fine-tuning a backbone: which parameters train, and how close they stay to pretrained ones."""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodml.backbones import Backbone
from oodml.errors import OodmlError, error_at
from oodml.losses.s2sd import Loss as SimilarityDistillation
from oodml.methods._base import Batch
from oodml.model import Embedder, FinetuneSettings, LoraSettings
from oodml.training.settings import Retain, TrainSettings

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Metrics = dict[str, float]
RELATION_TEMPERATURE = 0.1
"""Temperature of the softmax over the cosines of a batch."""


class Tuning:
    """Freezes the parameters of a model's backbone that do not train, and adds LoRA adapters."""

    def __init__(self, model: Embedder, settings: TrainSettings) -> None:
        self.backbone = model.trained_backbone
        self.parameters: list[nn.Parameter] = []
        self._behind: list[int] = []
        if self.backbone is None or not isinstance(model.settings, FinetuneSettings):
            return
        layers = layer_numbers(self.backbone)
        if model.settings.tune == "lora":
            _add_lora(self.backbone, model.settings.lora)
        chosen = tuned_names(self.backbone, model.settings.tune, layers)
        last = max(layers.values(), default=0)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name in chosen)
            if name in chosen:
                self.parameters.append(parameter)
                module = name.partition(".lora_")[0]  # LoRA adapters belong to its layer
                inside = (n for other, n in layers.items() if other.rpartition(".")[0] == module)
                self._behind.append(last - (layers[name] if name in layers else next(inside)))
        if settings.gradient_checkpointing:
            enable = getattr(self.backbone.network, "set_grad_checkpointing", None)
            if enable is None:
                name, key = model.settings.backbone, "train.gradient_checkpointing"
                remedy = "set train.chunk_size, which saves memory with any network"
                raise OodmlError(f"{key}: {name!r} does not support it; {remedy}", key, name)
            enable(True)

    def parameter_groups(self, settings: TrainSettings) -> list[dict[str, Any]]:
        """The optimizer groups, with lr · layer_decay^(number of layers behind)."""
        groups: dict[int, list[nn.Parameter]] = {}
        for parameter, behind in zip(self.parameters, self._behind, strict=True):
            groups.setdefault(behind if settings.layer_decay < 1 else 0, []).append(parameter)
        lr, decay = settings.lr or 1e-5, settings.weight_decay
        return [
            {"params": some, "lr": lr * settings.layer_decay**behind, "weight_decay": decay}
            for behind, some in sorted(groups.items())
        ]

    def finish(self) -> None:
        """Merge LoRA adapters into the weights, so that the model has its original structure."""
        if self.backbone is None:
            return
        for parent in list(self.backbone.modules()):
            for name, child in parent.named_children():
                adapted: Any = child
                if hasattr(adapted, "get_base_layer") and hasattr(adapted, "merge"):
                    adapted.merge()
                    setattr(parent, name, adapted.get_base_layer())
        self.backbone.requires_grad_(True)


def layer_numbers(backbone: Backbone) -> dict[str, int]:
    """The layer of each parameter, from 0 at the input: the blocks of timm networks, or modules."""
    matcher = getattr(backbone.network, "group_matcher", None)
    if matcher is not None:
        from timm.models import group_parameters

        numbers = group_parameters(backbone.network, matcher(coarse=False), reverse=True)
        blocks = [number for name, number in numbers.items() if re.search(r"\.\d+\.", name)]
        last = max(blocks, default=max(numbers.values()))  # a final norm belongs to the last block
        return {f"network.{name}": min(int(number), last) for name, number in numbers.items()}
    modules = {name: name.rpartition(".")[0] for name, _ in backbone.named_parameters()}
    order = {module: number for number, module in enumerate(dict.fromkeys(modules.values()))}
    return {name: order[module] for name, module in modules.items()}


def tuned_names(backbone: Backbone, tune: str, layers: dict[str, int]) -> set[str]:
    names = [name for name, _ in backbone.named_parameters()]
    if tune in ("full", "head"):
        return set(names if tune == "full" else ())
    if tune == "lora":
        return {name for name in names if ".lora_" in name}
    if tune == "norm":
        norms = {name for name, module in backbone.named_modules() if isinstance(module, NORMS)}
        return {name for name in names if name.rpartition(".")[0] in norms}
    n, numbers = int(tune.removeprefix("last:")), sorted(set(layers.values()))
    if n > len(numbers):
        message = f'"{tune}": the network has {len(numbers)} layers'
        raise error_at("model.tune", message, given=tune, allowed=[f"last:1 to {len(numbers)}"])
    return {name for name in names if layers[name] in numbers[-n:]}


def _add_lora(backbone: Backbone, settings: LoraSettings) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        problem = f"model.tune = \"lora\" needs peft: pip install 'oodml[lora]' ({error})"
        raise OodmlError(problem, "model.tune") from error
    adaptable = [  # in order
        name
        for name, module in backbone.network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    blocks = [name for name in adaptable if re.search(r"\b(attn|mlp)\.", name)]
    # Attention and MLP layers of transformers and ConvNeXt, or else every layer but the first.
    names = list(settings.targets) or blocks or adaptable[1:] or adaptable
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=names)
    try:
        inject_adapter_in_model(config, backbone.network)
    except ValueError as error:  # no module of that name, or one that cannot be adapted
        allowed = sorted({name.rpartition(".")[2] for name in adaptable})
        problem = f"model.lora.targets: {error}"
        raise OodmlError(problem, "model.lora.targets", names, allowed) from error


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: that of tensors on a GPU, or that of the process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Retention:
    """Penalties for the distance to the pretrained model.

    "embedding" is the mean of 1 - cosine between the pooled features of the trained and of the
    pretrained backbone, so it does not depend on the new head. "relation" is the KL divergence
    between the softmax of the cosines of a batch of embeddings and that of pretrained features
    (temperature 0.1). "weights" is half the squared distance of the trained parameters of the
    backbone (L2-SP, Li et al. 2018, arXiv 1802.01483). `teacher` are pretrained features [n f] of
    the test view; by default they are computed in each step, for the view that the model sees.
    """

    def __init__(
        self,
        settings: Retain,
        model: Embedder,
        parameters: Sequence[nn.Parameter],
        teacher: Float[Tensor, "n f"] | None,
    ) -> None:
        self.settings, self.teacher = settings, teacher
        self.parameters = list(parameters) if settings.weights else []
        self.start = [parameter.detach().clone() for parameter in self.parameters]
        self.distillation = SimilarityDistillation(RELATION_TEMPERATURE)
        self.pretrained: Embedder | None = None
        needs_features = bool(settings.embedding or settings.relation)
        if needs_features and teacher is None and model.trained_backbone is not None:
            self.pretrained = copy.deepcopy(model).requires_grad_(False).eval()

    def terms(self, batch: Batch, rows: Tensor) -> dict[str, Tensor]:
        """The terms that depend on a batch, whose images are these rows of the source."""
        terms: dict[str, Tensor] = {}
        if not (self.settings.embedding or self.settings.relation):
            return terms
        if self.teacher is not None:
            target = self.teacher[rows].to(batch.features)
        elif self.pretrained is None:  # cached features of a frozen backbone
            target = batch.features
        else:
            assert batch.images is not None
            with torch.no_grad():
                target = batch.encode(self.pretrained, batch.images)
        if self.settings.embedding:
            cosine = nn.functional.cosine_similarity(batch.features, target, dim=1)
            terms["retain_embedding"] = self.settings.embedding * (1 - cosine).mean()
        if self.settings.relation:
            relation = self.distillation(batch.embeddings, target)
            terms["retain_relation"] = self.settings.relation * relation
        return terms

    @torch.no_grad()
    def pull_weights(self) -> dict[str, Tensor]:
        """Add the gradient of the term of the weights, after those of the processes are summed."""
        pairs = zip(self.parameters, self.start, strict=True)
        trained = [(p.detach(), start, p.grad) for p, start in pairs if p.grad is not None]
        if not trained:
            return {}
        gaps = torch._foreach_sub([p for p, *_ in trained], [start for _, start, _ in trained])
        gradients = [gradient for *_, gradient in trained]
        torch._foreach_add_(gradients, gaps, alpha=self.settings.weights)
        total = torch.stack(torch._foreach_norm(gaps)).square().sum()
        return {"retain_weights": self.settings.weights * total / 2}


class MovingAverage:
    """Exponential moving average of parameters; the share `decay` of it remains in each step."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters have their averages inside the block."""
        current = [parameter.detach() for parameter in self.parameters]
        before = [value.clone() for value in current]
        torch._foreach_copy_(current, self.average)
        try:
            yield
        finally:
            torch._foreach_copy_(current, before)


def prefix_names(prefix: str, metrics: Metrics) -> Metrics:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}


def backbone_weights(backbone: Backbone) -> dict[str, Tensor]:
    state = backbone.state_dict()
    return {k: value.detach().clone() for k, value in state.items() if value.is_floating_point()}


def search_path(
    backbone: Backbone,
    start: dict[str, Tensor],
    shares: Sequence[float],
    validate: Callable[[], Metrics],
    diagnose: Callable[[], Metrics] | None,
    score: Callable[[Metrics], float],
) -> tuple[list[Metrics], Metrics]:
    """Evaluate the path from pretrained to trained weights (WiSE-FT, arXiv 2109.01903).

    The backbone is left with the best weights; its head keeps the trained ones on the whole path.
    `shares` are those of the trained weights, to which 0 and 1 are added; `score` is maximized.
    Returns one row per point, with its "share", and the metrics of the best one.
    """
    end, state = backbone_weights(backbone), backbone.state_dict()

    def interpolate(share: float) -> None:
        with torch.no_grad():
            for name, value in end.items():
                state[name].copy_(value if share == 1 else start[name].to(value).lerp(value, share))

    measured, rows = {}, []
    for share in sorted({0.0, *shares, 1.0}):
        interpolate(share)
        measured[share], test = validate(), diagnose() if diagnose else {}
        row = prefix_names("validation", measured[share]) | prefix_names("test", test)
        rows.append({"share": share} | row)
    best = max(measured, key=lambda share: (score(measured[share]), share))
    interpolate(best)
    return rows, measured[best]
