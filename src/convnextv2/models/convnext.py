"""ConvNeXt V1 and V2 from one class; parameter names and shapes are those of the official dense model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convnextv2 import ops
from convnextv2.errors import UserError
from convnextv2.models.block import LAYER_NORM_EPS, Block
from convnextv2.models.config import EncoderConfig
from convnextv2.models.grid import DENSE, Grid, apply

CELL_UNIT = 8
"""First-stage sites on a side of one last-stage site: the cell that is masked as a whole in pre-training."""


class PatchConv(nn.Conv2d):
    """A convolution whose stride is its kernel size, computed as a linear map of patches.

    Patches do not overlap, so it is local: it works on whole images and on separate cells alike. With `patch` 1 it is
    the 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, patch: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=patch, stride=patch)

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H // patch, W // patch); a remainder of pixels is dropped."""
        x, patch = input.permute(0, 2, 3, 1), self.kernel_size[0]
        x = x[:, : x.shape[1] // patch * patch, : x.shape[2] // patch * patch]
        x = x.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))  # (N, rows, patch, columns, patch, in)
        x = x.transpose(2, 3).flatten(3)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # (out, row * column * channel)
        return ops.linear(x, weight, self.bias).permute(0, 3, 1, 2)


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of each site of maps (N, C, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=LAYER_NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage(nn.ModuleList):
    """The blocks of one resolution, as a module that is called, so that hooks on it see what it takes and returns."""

    def forward(self, x: Tensor, grid: Grid = DENSE) -> Tensor:
        """Apply the blocks in order.  x: maps of `grid`, (N, C, H, W); returns the same."""
        for block in self:
            x = apply(block, x, grid)
        return x


class ConvNeXt(nn.Module):
    """A ConvNeXt of any size (Liu et al. 2022; Woo et al. 2023).

    config: the architecture of the encoder; its values are attributes of the model too.
    num_classes: 0 for no head; `model(images)` then gives pooled features.
    drop_path_rate: of the last block, rising linearly from 0 at the first.
    layer_scale: initial value of LayerScale (V1).
    head_init_scale: factor on the head's initial weights (0.001 in the published fine-tuning).
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        layer_scale: float = 1e-6,
        head_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if num_classes < 0:
            raise UserError(f"num_classes must be 0 (no head) or more, got {num_classes}")
        if not 0 <= drop_path_rate < 1:
            raise UserError(f"drop_path_rate must be at least 0 and below 1, got {drop_path_rate}")
        self.config, self.num_classes = config, num_classes
        self.depths, self.dims, self.has_grn = config.depths, config.dims, config.grn
        self.in_chans, self.stem_stride, self.strides = config.in_chans, config.stem_stride, config.strides

        dims = config.dims
        stem = nn.Sequential(PatchConv(config.in_chans, dims[0], config.stem_stride), MapNorm(dims[0]))
        downsample = [nn.Sequential(MapNorm(dims[k - 1]), PatchConv(dims[k - 1], dims[k], 2)) for k in (1, 2, 3)]
        self.downsample_layers = nn.ModuleList([stem, *downsample])
        rates = iter(torch.linspace(0, drop_path_rate, sum(config.depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            Stage(Block(dim, grn=config.grn, drop_path_rate=next(rates), layer_scale=layer_scale) for _ in range(depth))
            for depth, dim in zip(config.depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(dims[3], eps=LAYER_NORM_EPS)
        self.head = nn.Linear(dims[3], num_classes) if num_classes else nn.Identity()

        self.apply(init_weights)
        if isinstance(self.head, nn.Linear):
            with torch.no_grad():
                self.head.weight.mul_(head_init_scale)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes).  images: (B, in_chans, H, W), normalised."""
        return self.head(self.pooled_features(images))

    def pooled_features(self, images: Tensor) -> Tensor:
        """Return the average of the last stage over all sites, then LayerNorm, (B, dims[3])."""
        return self.norm(DENSE.sites(self.feature_maps(images)[-1]).mean((1, 2)))  # its gradient is channels last too

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of each stage, (B, dims[s], H // strides[s], W // strides[s]), without a norm."""
        _check(images, self.in_chans, self.stem_stride)
        return self.stage_outputs(images, DENSE)

    def stage_outputs(self, pixels: Tensor, grid: Grid) -> list[Tensor]:
        """Run the four stages over the sites of a grid.

        pixels: maps of the grid, (B, in_chans, H, W) for whole images and (B * V, in_chans, p, p), with p pixels on
        a side of a cell, for packed cells.  Returns the maps of each stage.
        """
        x, outputs = pixels, []
        for number, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            if grid.partial and number:
                assert isinstance(downsample, nn.Sequential)
                norm, convolution = downsample
                x = convolution(grid.maps(grid.zero_absent(grid.sites(norm(x)))))
            else:
                x = downsample(x)
            grid = grid.coarser() if number else grid
            x = apply(stage, x, grid)
            outputs.append(x)
        return outputs


@torch.fx.wrap
def _check(images: Tensor, in_chans: int, stem_stride: int) -> None:
    """Raise UserError unless the images are (B, in_chans, H, W) and give the last stage a site at least."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return  # what is traced holds for the images at hand only
    smallest = 8 * stem_stride
    if images.ndim != 4 or images.shape[1] != in_chans:
        raise UserError(f"images must be (B, {in_chans}, H, W), got {tuple(images.shape)}")
    if min(images.shape[2:]) < smallest:
        finer = f" or stem_stride={stem_stride // 2}" if stem_stride > 1 else ""
        raise UserError(
            f"images of {images.shape[2]}x{images.shape[3]} are smaller than the total stride {smallest}; "
            f"use larger images{finer}"
        )


def init_weights(module: nn.Module) -> None:
    """Initialise convolutions and linear maps: truncated normal of std 0.02, zero biases (paper, appendix A)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
