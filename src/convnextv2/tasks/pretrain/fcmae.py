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
from convnextv2.models.grid import DENSE, Cells, MaskedGrid, PackedGrid
from convnextv2.tasks.pretrain.masking import normalise_patches, random_mask


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
    """

    def __init__(
        self,
        encoder: ConvNeXt,
        *,
        mask_ratio: float = 0.6,
        decoder_dim: int = 512,
        decoder_depth: int = 1,
        norm_pix_loss: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio must lie between 0 and 1, got {mask_ratio}")
        if decoder_dim < 1 or decoder_depth < 1:
            raise UserError(f"decoder_dim and decoder_depth must be at least 1, got {decoder_dim} and {decoder_depth}")
        self.encoder = encoder
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.cell = encoder.strides[-1]
        self.proj = PatchConv(encoder.dims[3], decoder_dim, patch=1)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.decoder = nn.ModuleList(Block(decoder_dim, grn=encoder.has_grn) for _ in range(decoder_depth))
        self.pred = PatchConv(decoder_dim, self.cell**2 * encoder.in_chans, patch=1)
        for part in (self.proj, self.decoder, self.pred):
            part.apply(init_weights)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, mask: Tensor | None = None, sparse: bool = True) -> FCMAEOutput:
        """Run one pre-training pass.

        images: (B, C, H, W), H and W multiples of the cell.  mask: (B, H/cell, W/cell) boolean, True is masked,
        used as it is; drawn at random if not given.  sparse: False takes the dense-masked path, which is the
        same function, slower and easier to read.

        The first training step on a CPU calls `machine.keep_freed_memory`.
        """
        if images.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            machine.keep_freed_memory()  # a loop of the user's own is as fast as the command
        mask, cells = self._cells(images, mask)
        tokens = self._encode(images, mask, cells, sparse)  # (B, h, w, decoder_dim)
        decoded = self._decode(tokens, keep=cells.masked)  # (masked cells, decoder_dim)
        prediction = self.pred(decoded[..., None, None]).flatten(1)  # (masked cells, p * p * C)
        return FCMAEOutput(self._loss(prediction, images, cells), mask)

    def reconstruct(self, images: Tensor, mask: Tensor | None = None, sparse: bool = True) -> Reconstruction:
        """Run `forward`, and predict every cell, masked or not.

        images: (B, C, H, W).  mask: (B, H/cell, W/cell) boolean.  sparse: as in `forward`.
        """
        mask, cells = self._cells(images, mask)
        decoded = self._decode(self._encode(images, mask, cells, sparse))
        prediction = DENSE.sites(self.pred(decoded)).flatten(1, 2)  # (B, h * w, p * p * C)
        masked = prediction.flatten(0, 1)[cells.masked]
        return Reconstruction(self._loss(masked, images, cells), mask, prediction)

    def encode(self, images: Tensor, mask: Tensor, sparse: bool = True) -> Tensor:
        """Return the features of the visible cells: (B, h, w, dims[3]), zero in masked ones; the mask may be empty."""
        mask, cells = self._cells(images, mask)
        if not sparse:
            return DENSE.sites(self._encode_masked(images, mask))
        packed = _by_image(self._encode_packed(images, cells), cells)  # (B, V, dims[3])
        return cells.scatter(packed, packed.new_zeros(packed.shape[-1]))

    def _encode(self, images: Tensor, mask: Tensor, cells: Cells, sparse: bool) -> Tensor:
        """Encoder, projection, and the mask token in every masked cell: (B, h, w, decoder_dim)."""
        token = self.mask_token.flatten()
        if not sparse:
            projected = DENSE.sites(self.proj(self._encode_masked(images, mask)))
            return torch.where(mask.to(images.device)[..., None], token.to(projected.dtype), projected)
        projected = _by_image(self.proj(self._encode_packed(images, cells)), cells)  # (B, V, decoder_dim)
        return cells.scatter(projected, fill=token)

    def _encode_packed(self, images: Tensor, cells: Cells) -> Tensor:
        """The last stage at each visible cell: (B * V, dims[3], 1, 1)."""
        pixels = cells.gather(self._patches(images))  # (B, V, p, p, C)
        grid = PackedGrid(cells, unit=CELL_UNIT)
        return self.encoder.stage_outputs(grid.maps(pixels), grid)[-1]

    def _encode_masked(self, images: Tensor, mask: Tensor) -> Tensor:
        """The last stage, zero in masked cells: (B, dims[3], h, w)."""
        mask = mask.to(images.device)
        pixels, cells = MaskedGrid(mask, unit=self.cell), MaskedGrid(mask, unit=1)
        images = pixels.maps(pixels.zero_absent(pixels.sites(images)))
        features = self.encoder.stage_outputs(images, MaskedGrid(mask, unit=CELL_UNIT))[-1]
        return cells.maps(cells.zero_absent(cells.sites(features)))

    def _patches(self, images: Tensor) -> Tensor:
        """A view of the pixels by cell, channels last: (B, h, w, p, p, C)."""
        batch, channels, height, width = images.shape
        x = images.view(batch, channels, height // self.cell, self.cell, width // self.cell, self.cell)
        return x.permute(0, 2, 4, 3, 5, 1)

    def _decode(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Decoder blocks over all cells, (B, decoder_dim, h, w); the last one only where needed, (len(keep), dim)."""
        x = DENSE.maps(tokens)
        for block in self.decoder[:-1]:
            x = block(x)
        return self.decoder[-1](x, keep=keep)

    def _loss(self, prediction: Tensor, images: Tensor, cells: Cells) -> Tensor:
        """Mean squared error over masked cells.  prediction: (masked cells, p * p * C)."""
        exact = torch.promote_types(prediction.dtype, torch.float32)
        if not len(prediction):
            raise UserError("the mask has no masked cell, so there is nothing to predict")
        target = cells.take(self._patches(images), cells.masked).flatten(1).to(exact)
        if self.norm_pix_loss:
            target = normalise_patches(target)
        return nn.functional.mse_loss(prediction.to(exact), target)

    def _cells(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Cells]:
        """The mask to use and its cells; UserError if images and mask do not fit."""
        if images.ndim != 4 or images.shape[1] != self.encoder.in_chans:
            raise UserError(f"images must be (B, {self.encoder.in_chans}, H, W), got {tuple(images.shape)}")
        batch, _, height, width = images.shape
        if height % self.cell or width % self.cell:
            raise UserError(f"images of {height}x{width} are not multiples of the mask cell of {self.cell} pixels")
        shape = (batch, height // self.cell, width // self.cell)
        if mask is None:
            mask = random_mask(*shape, self.mask_ratio)
        elif mask.dtype != torch.bool or tuple(mask.shape) != shape:
            raise UserError(f"mask must be boolean of shape {shape}, got {mask.dtype} {tuple(mask.shape)}")
        cells = Cells.of(mask, images.device)
        if not cells.visible.numel():
            raise UserError("the mask has no visible cell, so there is nothing to predict from")
        return mask, cells


def _by_image(maps: Tensor, cells: Cells) -> Tensor:
    """Return maps of one site a cell, (B * V, F, 1, 1), as (B, V, F)."""
    return maps.flatten(1).unflatten(0, cells.visible.shape)
