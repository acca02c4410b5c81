"""UPerNet (Xiao et al. 2018): pyramid pooling and a feature pyramid over four maps, as in the paper's framework.

Sizes, initialisation and order of the operations are mmsegmentation's, which the paper used (Woo et al. 2023, appendix
D.2); transformers has the same head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convnextv2.errors import UserError
from convnextv2.models.convnext import ConvNeXt, MapNorm
from convnextv2.models.synced_batch_norm import SyncedBatchNorm

POOL_SCALES = (1, 2, 3, 6)
AUXILIARY_DIM = 256
_AUXILIARY_MAP = 2  # of stage 3, stride 16
_LEAST_IN_A_GROUP = 16
"""Channels of a group; of fewer, a map that was pooled to one site would hardly keep anything."""

HeadNorm = Literal["batch", "group"]


@dataclass(frozen=True)
class SegmenterOutput:
    """logits: (B, classes, H / 4, W / 4), with the strides of the first map.  auxiliary: (B, classes, H / 16, W / 16).

    `auxiliary` is that of the auxiliary head, in training mode; None else.
    """

    logits: Tensor
    auxiliary: Tensor | None = None


class ConvNormReLU(nn.Sequential):
    """A convolution without bias that keeps the size of its maps, a norm, and ReLU."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, norm: HeadNorm) -> None:
        convolution = nn.Conv2d(in_dim, out_dim, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(convolution, _norm(norm, out_dim), nn.ReLU(inplace=True))


def _norm(name: HeadNorm, dim: int) -> nn.Module:
    if name == "batch":
        return SyncedBatchNorm(dim)
    groups = (count for count in (32, 16, 8, 4, 2) if dim % count == 0 and dim // count >= _LEAST_IN_A_GROUP)
    return nn.GroupNorm(next(groups, 1), dim)


class PyramidPooling(nn.Module):
    """The last map beside its averages over grids of 1, 2, 3 and 6 cells on a side, and a convolution of them all."""

    def __init__(self, in_dim: int, dim: int, norm: HeadNorm) -> None:
        super().__init__()
        self.scales = nn.ModuleList(ConvNormReLU(in_dim, dim, 1, norm) for _ in POOL_SCALES)
        self.bottleneck = ConvNormReLU(in_dim + len(POOL_SCALES) * dim, dim, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim, h, w).  x: (B, in_dim, h, w)."""
        pooled = [scale(F.adaptive_avg_pool2d(x, side)) for scale, side in zip(self.scales, POOL_SCALES, strict=True)]
        return self.bottleneck(torch.cat([x, *(_resized(each, x) for each in pooled)], 1))


class UPerHead(nn.Module):
    """The head on four feature maps.

    in_dims: channels of the maps, finest first.  dim: channels of everything inside, 512 in the paper.
    norm: "batch" as in the paper, or "group", which does not depend on the batch and so trains at batch 1.
    """

    def __init__(
        self,
        in_dims: Sequence[int],
        num_classes: int,
        *,
        dim: int = 512,
        dropout: float = 0.1,
        norm: HeadNorm = "batch",
    ) -> None:
        super().__init__()
        self.pooling = PyramidPooling(in_dims[-1], dim, norm)
        self.laterals = nn.ModuleList(ConvNormReLU(in_dim, dim, 1, norm) for in_dim in in_dims[:-1])
        self.outputs = nn.ModuleList(ConvNormReLU(dim, dim, 3, norm) for _ in in_dims[:-1])
        self.fuse = ConvNormReLU(len(in_dims) * dim, dim, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = _classifier(dim, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits at the size of the first map, (B, num_classes, h, w).  maps: (B, in_dims[k], h_k, w_k)."""
        finer = [lateral(each) for lateral, each in zip(self.laterals, maps, strict=False)]
        summed = [self.pooling(maps[-1])]
        for each in reversed(finer):
            summed.insert(0, each + _resized(summed[0], each))
        found = [output(each) for output, each in zip(self.outputs, summed, strict=False)]
        found = [found[0], *(_resized(each, found[0]) for each in (*found[1:], summed[-1]))]
        return self.classifier(self.dropout(self.fuse(torch.cat(found, 1))))


class FCNHead(nn.Module):
    """One convolution on one map and a classifier: the auxiliary head, which only training uses."""

    def __init__(
        self, in_dim: int, num_classes: int, *, dim: int = AUXILIARY_DIM, dropout: float = 0.1, norm: HeadNorm = "batch"
    ) -> None:
        super().__init__()
        self.convolution = ConvNormReLU(in_dim, dim, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = _classifier(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, num_classes, h, w).  x: (B, in_dim, h, w)."""
        return self.classifier(self.dropout(self.convolution(x)))


class FeatureMaps(Protocol):
    """A backbone of four maps, see `ConvNeXt.feature_maps`.  dims: their channels, finest first."""

    dims: Sequence[int]

    def feature_maps(self, images: Tensor, /) -> list[Tensor]:
        """Return four maps of strides s, 2s, 4s and 8s."""
        ...


class UPerNet(nn.Module):
    """A segmenter: a backbone, a LayerNorm on each of its four feature maps, `UPerHead`, and an auxiliary `FCNHead`.

    backbone: a module that is `FeatureMaps`, such as `ConvNeXt`. Its final norm and head are not used.
    head_dim: width of the head.  head_norm: see `UPerHead`.
    auxiliary: whether there is an auxiliary head, half as wide, as in the paper.

    Raises UserError for fewer than two classes.
    """

    frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        head_dim: int = 512,
        dropout: float = 0.1,
        head_norm: HeadNorm = "batch",
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"a segmenter needs two classes or more, got {num_classes}")
        dims = cast(FeatureMaps, backbone).dims
        self.encoder, self.num_classes = backbone, num_classes
        self.norms = nn.ModuleList(map(MapNorm, dims))
        self.head = UPerHead(dims, num_classes, dim=head_dim, dropout=dropout, norm=head_norm)
        own = max(1, head_dim * AUXILIARY_DIM // 512)
        self.auxiliary = (
            FCNHead(dims[_AUXILIARY_MAP], num_classes, dim=own, dropout=dropout, norm=head_norm) if auxiliary else None
        )

    def freeze(self, stages: int) -> None:
        """Keep the weights of the first stages as they are, stem first: 1 to 3, or 4 for all of the backbone.

        They get no gradient, and no drop path acts in them.

        Raises UserError for fewer than 4 stages of a backbone that is not a `ConvNeXt`, whose stages are not known.
        """
        encoder = self.encoder
        if stages >= 4:
            frozen = (encoder,)
        elif isinstance(encoder, ConvNeXt):
            frozen = tuple(encoder.downsample_layers[:stages]) + tuple(encoder.stages[:stages])
        else:
            raise UserError(
                f"--freeze {stages}: of a model of timm the whole backbone is frozen, --freeze 4, or nothing"
            )
        for module in frozen:
            module.requires_grad_(False)
        self.frozen = frozen
        self.train(self.training)

    def train(self, mode: bool = True) -> UPerNet:
        """Set the mode of all modules but those that are frozen, which stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Return logits at the stride of the first map.  images: (B, C, H, W), normalised."""
        encoder = cast(FeatureMaps, self.encoder)
        maps = [norm(each) for norm, each in zip(self.norms, encoder.feature_maps(images), strict=True)]
        auxiliary = None
        if self.training and self.auxiliary is not None:
            auxiliary = self.auxiliary(maps[_AUXILIARY_MAP])
        return SegmenterOutput(self.head(maps), auxiliary)


def _classifier(dim: int, num_classes: int) -> nn.Conv2d:
    classifier = nn.Conv2d(dim, num_classes, 1)
    nn.init.normal_(classifier.weight, std=0.01)
    assert classifier.bias is not None
    nn.init.zeros_(classifier.bias)
    return classifier


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """Maps bilinearly resized to the size of others."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
