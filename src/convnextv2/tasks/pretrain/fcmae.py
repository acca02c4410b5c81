"""FCMAE: the fully convolutional masked autoencoder (Woo et al. 2023, section 3.1, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convnextv2.engine import machine
from convnextv2.errors import UserError
from convnextv2.models import CELL_UNIT, ConvNeXt, init_weights
from convnextv2.models.block import Block
from convnextv2.models.convnext import PatchConv
from convnextv2.models.grid import DENSE, Cells, MaskedGrid, PackedGrid, apply
from convnextv2.tasks.pretrain.masking import absent_cells, normalise_patches, random_mask


@dataclass(frozen=True)
class FCMAEOutput:
    """loss: scalar.  mask: (B, grid_h, grid_w) boolean, True was masked."""

    loss: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Reconstruction(FCMAEOutput):
    """prediction: (B, grid_h * grid_w, p * p * C) for every cell, in the space of the (normalised) target.

    Visible cells carry no loss, so what is predicted there means nothing.
    """

    prediction: Tensor


class FCMAE(nn.Module):
    """Mask most of an image, encode what is visible, predict the pixels of what was masked.

    encoder: a `ConvNeXt`, V2 or V1. Its final norm and head are not used.
    mask_ratio: the share of the cells that is masked; a cell is `8 * stem_stride` pixels on a side.
    decoder_dim, decoder_depth: width and number of the decoder's blocks, of the encoder's kind.
    norm_pix_loss: predict each patch normalised by its own mean and variance.
    min_valid: the least share of a cell's pixels, above 0 and at most 1, without which the cell does not exist.
    """

    def __init__(
        self,
        encoder: ConvNeXt,
        *,
        mask_ratio: float = 0.6,
        decoder_dim: int = 512,
        decoder_depth: int = 1,
        norm_pix_loss: bool = True,
        min_valid: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 < min_valid <= 1:
            raise UserError(f"min_valid must be above 0 and at most 1, got {min_valid}")
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}")
        if decoder_dim < 1 or decoder_depth < 1:
            raise UserError(f"decoder_dim and decoder_depth must be at least 1, got {decoder_dim} and {decoder_depth}")
        self.encoder = encoder
        self.mask_ratio, self.norm_pix_loss, self.min_valid = mask_ratio, norm_pix_loss, min_valid
        self.cell = encoder.strides[-1]
        self.proj = PatchConv(encoder.dims[3], decoder_dim, patch=1)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.decoder = nn.ModuleList(Block(decoder_dim, grn=encoder.has_grn) for _ in range(decoder_depth))
        self.pred = PatchConv(decoder_dim, self.cell**2 * encoder.in_chans, patch=1)
        for part in (self.proj, self.decoder, self.pred):
            part.apply(init_weights)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self, images: Tensor, mask: Tensor | None = None, sparse: bool = True, valid: Tensor | None = None
    ) -> FCMAEOutput:
        """Run one pre-training pass.

        images: (B, C, H, W), H and W multiples of the cell.  mask: (B, H/cell, W/cell) boolean, True is masked,
        used as it is; drawn at random if not given.  sparse: False takes the dense-masked path, which is the
        same function, slower and easier to read.
        valid: (B, H, W) boolean, the pixels that exist; None if all do. The others, whatever they hold, have no part in
        anything: first-stage sites without a pixel do not exist, nor do cells with a smaller share of pixels than
        `min_valid`, which are neither seen nor predicted; the error is that of existing pixels.

        The first training step on a CPU calls `machine.keep_freed_memory`.
        """
        if images.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            machine.keep_freed_memory()  # a loop of the user's own is as fast as the command
        images, mask, cells = self._existing(images, mask, valid)
        tokens = self._encode(images, mask, cells, sparse, valid)  # (B, h, w, decoder_dim)
        decoded = self._decode(tokens, cells, keep=cells.masked)  # (masked cells, decoder_dim)
        prediction = self.pred(decoded[..., None, None]).flatten(1)  # (masked cells, p * p * C)
        return FCMAEOutput(self._loss(prediction, images, cells, valid), mask)

    def reconstruct(
        self, images: Tensor, mask: Tensor | None = None, sparse: bool = True, valid: Tensor | None = None
    ) -> Reconstruction:
        """Run `forward`, and predict every cell, masked or not.

        images: (B, C, H, W).  mask: (B, H/cell, W/cell) boolean.  sparse, valid: as in `forward`.
        """
        images, mask, cells = self._existing(images, mask, valid)
        decoded = self._decode(self._encode(images, mask, cells, sparse, valid), cells)
        prediction = DENSE.sites(self.pred(decoded)).flatten(1, 2)  # (B, h * w, p * p * C)
        masked = prediction.flatten(0, 1)[cells.masked]
        return Reconstruction(self._loss(masked, images, cells, valid), mask, prediction)

    def encode(self, images: Tensor, mask: Tensor, sparse: bool = True, valid: Tensor | None = None) -> Tensor:
        """Return the features of the visible cells: (B, h, w, dims[3]), zero in all others; the mask may be empty.

        The arguments are those of `forward`.
        """
        images, mask, cells = self._existing(images, mask, valid)
        if not sparse:
            return DENSE.sites(self._encode_masked(images, mask, cells, valid))
        packed = _by_image(self._encode_packed(images, cells, valid), cells)  # (B, V, dims[3])
        return cells.scatter(packed, packed.new_zeros(packed.shape[-1]))

    def _encode(self, images: Tensor, mask: Tensor, cells: Cells, sparse: bool, valid: Tensor | None) -> Tensor:
        """Encoder, projection, and the mask token in every masked cell: (B, h, w, decoder_dim)."""
        token = self.mask_token.flatten()
        if not sparse:
            projected = DENSE.sites(self.proj(self._encode_masked(images, mask, cells, valid)))
            return torch.where(mask.to(images.device)[..., None], token.to(projected.dtype), projected)
        projected = _by_image(self.proj(self._encode_packed(images, cells, valid)), cells)  # (B, V, decoder_dim)
        return cells.scatter(projected, fill=token)

    def _encode_packed(self, images: Tensor, cells: Cells, valid: Tensor | None) -> Tensor:
        """The last stage at each visible cell: (B * V, dims[3], 1, 1)."""
        pixels = cells.gather(self._patches(images))  # (B, V, p, p, C)
        missing = None
        if valid is not None:
            sites = self._sites_without_data(valid)  # (B, H, W) of the first stage
            by_cell = sites.unflatten(2, (-1, CELL_UNIT)).unflatten(1, (-1, CELL_UNIT)).transpose(2, 3)
            missing = cells.take(by_cell, cells.visible)  # (B, V, u, u)
        grid = PackedGrid(cells, CELL_UNIT, missing)
        return self.encoder.stage_outputs(grid.maps(pixels), grid)[-1]

    def _encode_masked(self, images: Tensor, mask: Tensor, cells: Cells, valid: Tensor | None) -> Tensor:
        """The last stage, zero in cells that are not visible: (B, dims[3], h, w)."""
        hidden = mask.to(images.device)
        hidden = hidden if cells.absent is None else hidden | cells.absent
        missing = None if valid is None else self._sites_without_data(valid)
        pixels, last = MaskedGrid(hidden, unit=self.cell), MaskedGrid(hidden, unit=1)
        images = pixels.maps(pixels.zero_absent(pixels.sites(images)))
        features = self.encoder.stage_outputs(images, MaskedGrid(hidden, CELL_UNIT, missing))[-1]
        return last.maps(last.zero_absent(last.sites(features)))

    def _sites_without_data(self, valid: Tensor) -> Tensor:
        """First-stage sites that no existing pixel belongs to, (B, H, W) boolean, from those of pixels."""
        stride = self.encoder.stem_stride
        return ~valid.unflatten(2, (-1, stride)).unflatten(1, (-1, stride)).any(4).any(2)

    def _patches(self, images: Tensor) -> Tensor:
        """A view of the pixels by cell, channels last: (B, h, w, p, p, C)."""
        batch, channels, height, width = images.shape
        x = images.view(batch, channels, height // self.cell, self.cell, width // self.cell, self.cell)
        return x.permute(0, 2, 4, 3, 5, 1)

    def _decode(self, tokens: Tensor, cells: Cells, keep: Tensor | None = None) -> Tensor:
        """Decoder blocks over all cells, (B, decoder_dim, h, w); the last one only where needed, (len(keep), dim)."""
        x = DENSE.maps(tokens)
        grid = DENSE if cells.absent is None else MaskedGrid(cells.absent, unit=1)
        for block in self.decoder[:-1]:
            x = apply(block, x, grid)
        return self.decoder[-1](x, grid, keep=keep)

    def _loss(self, prediction: Tensor, images: Tensor, cells: Cells, valid: Tensor | None) -> Tensor:
        """Mean squared error over the existing pixels of masked cells.  prediction: (masked cells, p * p * C)."""
        exact = torch.promote_types(prediction.dtype, torch.float32)
        if not len(prediction):
            raise UserError("the mask has no masked cell, so there is nothing to predict")
        target = cells.take(self._patches(images), cells.masked).flatten(1).to(exact)
        there = None
        if valid is not None:
            pixels = cells.take(self._patches(valid[:, None]), cells.masked)  # (masked cells, p, p, 1)
            there = pixels.expand(-1, -1, -1, images.shape[1]).flatten(1)
        if self.norm_pix_loss:
            target = normalise_patches(target, there)
        if there is None:
            return nn.functional.mse_loss(prediction.to(exact), target)
        return torch.where(there, prediction.to(exact) - target, 0).square().sum() / there.sum()

    def _existing(self, images: Tensor, mask: Tensor | None, valid: Tensor | None) -> tuple[Tensor, Tensor, Cells]:
        """Images with zeros where there is no data, the mask to use, and its cells."""
        if valid is None:
            return images, *self._cells(images, mask, None)
        if valid.dtype != torch.bool or images.ndim != 4 or valid.shape != (len(images), *images.shape[2:]):
            raise UserError(f"valid must be boolean (B, H, W) of the images, got {valid.dtype} {tuple(valid.shape)}")
        return torch.where(valid[:, None], images, 0), *self._cells(images, mask, valid)

    def _cells(self, images: Tensor, mask: Tensor | None, valid: Tensor | None) -> tuple[Tensor, Cells]:
        """The mask to use and its cells; UserError if images and mask do not fit."""
        if images.ndim != 4 or images.shape[1] != self.encoder.in_chans:
            raise UserError(f"images must be (B, {self.encoder.in_chans}, H, W), got {tuple(images.shape)}")
        batch, _, height, width = images.shape
        if height % self.cell or width % self.cell:
            raise UserError(f"images of {height}x{width} are not multiples of the mask cell of {self.cell} pixels")
        shape = (batch, height // self.cell, width // self.cell)
        absent = None if valid is None else absent_cells(valid, self.cell, self.min_valid)
        if mask is None:
            mask = random_mask(*shape, self.mask_ratio, absent=absent)
        elif mask.dtype != torch.bool or tuple(mask.shape) != shape:
            raise UserError(f"mask must be boolean of shape {shape}, got {mask.dtype} {tuple(mask.shape)}")
        cells = Cells.of(mask, images.device, None if absent is None else absent.to(mask.device))
        if not cells.visible.numel():
            raise UserError("the mask has no visible cell, so there is nothing to predict from")
        return mask, cells


def _by_image(maps: Tensor, cells: Cells) -> Tensor:
    """Return maps of one site a cell, (B * V, F, 1, 1), as (B, V, F)."""
    return maps.flatten(1).unflatten(0, cells.visible.shape)
