"""FCMAE: the fully convolutional masked autoencoder (Woo et al. 2023, section 3.1, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convnextv2.errors import UserError
from convnextv2.models import ConvNeXt, init_weights
from convnextv2.models.block import Block
from convnextv2.models.grid import Cells, DenseGrid, MaskedGrid, PackedGrid
from convnextv2.tasks.pretrain.masking import normalise_patches, patchify, random_mask, visible_cells


@dataclass(frozen=True)
class Masked:
    """loss: scalar.  mask: (B, grid_h, grid_w) boolean, True was hidden."""

    loss: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Reconstruction(Masked):
    """prediction: (B, grid_h * grid_w, p * p * C) for every cell, in the space of the (normalised) target.

    Visible cells carry no loss, so what is predicted there means nothing.
    """

    prediction: Tensor


class FCMAE(nn.Module):
    """Hide most of a picture, encode what is left, predict the pixels of what was hidden.

    encoder: a `ConvNeXt`, V2 or V1. Its final norm and head take no part.
    mask_ratio: the part of the cells that is hidden; a cell is `8 * stem_stride` pixels on a side.
    decoder_dim, decoder_depth: width and number of the decoder's blocks, of the encoder's kind.
    norm_pix_loss: predict each cell normalised by its own mean and variance.
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
        self.encoder = encoder
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.cell = encoder.strides[-1]
        self.proj = nn.Conv2d(encoder.dims[3], decoder_dim, kernel_size=1)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.decoder = nn.ModuleList(Block(decoder_dim, grn=encoder.has_grn) for _ in range(decoder_depth))
        self.pred = nn.Conv2d(decoder_dim, self.cell**2 * encoder.in_chans, kernel_size=1)
        for part in (self.proj, self.decoder, self.pred):
            part.apply(init_weights)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, mask: Tensor | None = None, sparse: bool = True) -> Masked:
        """One pre-training pass.

        images: (B, C, H, W), H and W multiples of the cell.  mask: (B, H/cell, W/cell) boolean, True is hidden,
        used as it is; drawn at random if not given.  sparse: False takes the dense-masked path, which is the
        same function, slower and easier to read.
        """
        mask = self._mask(images, mask)
        cells = Cells(mask).to(images.device)
        tokens = self._encode(images, mask, cells, sparse)  # (B, h, w, decoder_dim)
        decoded = self._decode(tokens, keep=cells.hidden)  # (hidden cells, decoder_dim)
        prediction = _pointwise(self.pred, decoded)  # (hidden cells, p * p * C)
        return Masked(self._loss(prediction, images, cells), mask)

    def reconstruct(self, images: Tensor, mask: Tensor | None = None, sparse: bool = True) -> Reconstruction:
        """As `forward`, and the prediction for every cell, hidden or not."""
        mask = self._mask(images, mask)
        cells = Cells(mask).to(images.device)
        decoded = self._decode(self._encode(images, mask, cells, sparse))
        prediction = _pointwise(self.pred, decoded).flatten(1, 2)  # (B, h * w, p * p * C)
        hidden = prediction.flatten(0, 1)[cells.hidden]
        return Reconstruction(self._loss(hidden, images, cells), mask, prediction)

    def encode(self, images: Tensor, mask: Tensor, sparse: bool = True) -> Tensor:
        """Features of the visible cells: (B, h, w, dims[3]), zero where hidden."""
        mask = self._mask(images, mask)
        cells = Cells(mask).to(images.device)
        if not sparse:
            return self._encode_masked(images, mask)
        packed = self._encode_packed(images, cells)  # (B, V, dims[3])
        full = packed.new_zeros(mask.numel() + 1, packed.shape[-1])
        full = full.index_copy(0, cells.visible.flatten(), packed.flatten(0, 1))
        return full[:-1].view(*mask.shape, -1)

    def activation_bytes(self, image_size: int) -> int:
        """About how many bytes one picture keeps for the backward pass, in float32."""
        cells = (image_size // self.cell) ** 2
        shown = visible_cells(cells, self.mask_ratio)
        encoder = sum(
            shown * (8 >> stage) ** 2 * depth * dim * 16
            for stage, (depth, dim) in enumerate(zip(self.encoder.depths, self.encoder.dims, strict=True))
        )
        decoder = cells * len(self.decoder) * self.mask_token.numel() * 16
        pixels = image_size**2 * self.encoder.in_chans * 6
        return 4 * (encoder + decoder + pixels)

    def _encode(self, images: Tensor, mask: Tensor, cells: Cells, sparse: bool) -> Tensor:
        """Encoder, projection, and the mask token in every hidden place: (B, h, w, decoder_dim)."""
        token = self.mask_token.flatten()
        if not sparse:
            projected = _pointwise(self.proj, self._encode_masked(images, mask))
            return torch.where(mask.to(images.device)[..., None], token.to(projected.dtype), projected)
        projected = _pointwise(self.proj, self._encode_packed(images, cells))  # (B, V, decoder_dim)
        full = token.to(projected.dtype).repeat(mask.numel() + 1, 1)
        full = full.index_copy(0, cells.visible.flatten(), projected.flatten(0, 1))
        return full[:-1].view(*mask.shape, -1)

    def _encode_packed(self, images: Tensor, cells: Cells) -> Tensor:
        pixels = self._gather_cells(images, cells)
        grid = PackedGrid(cells, unit=8)
        return self.encoder.stage_outputs(pixels, grid)[-1].flatten(2)

    def _encode_masked(self, images: Tensor, mask: Tensor) -> Tensor:
        mask = mask.to(images.device)
        pixels = MaskedGrid(mask, unit=self.cell).existing(images.permute(0, 2, 3, 1))
        features = self.encoder.stage_outputs(pixels, MaskedGrid(mask, unit=8))[-1]
        return MaskedGrid(mask, unit=1).existing(features)

    def _gather_cells(self, images: Tensor, cells: Cells) -> Tensor:
        """The pixels of visible cells, (B, V, p, p, C); a place without a cell holds zeros."""
        batch, rows, columns = cells.shape
        index = cells.visible.clamp(max=batch * rows * columns - 1)
        column, row, picture = index % columns, index // columns % rows, index // (rows * columns)
        x = images.view(batch, -1, rows, self.cell, columns, self.cell).permute(0, 2, 4, 3, 5, 1)
        pixels = x[picture, row, column]
        return pixels if cells.exists is None else PackedGrid(cells, unit=1).existing(pixels)

    def _decode(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Decoder blocks over all cells; the last one only where its output is wanted."""
        x, grid = tokens, DenseGrid()
        for block in self.decoder[:-1]:
            x = block(x, grid)
        return self.decoder[-1](x, grid, keep=keep)

    def _loss(self, prediction: Tensor, images: Tensor, cells: Cells) -> Tensor:
        """Mean squared error over hidden cells.  prediction: (hidden cells, p * p * C)."""
        exact = torch.promote_types(prediction.dtype, torch.float32)
        target = patchify(images, self.cell).flatten(0, 1)[cells.hidden].to(exact)
        if self.norm_pix_loss:
            target = normalise_patches(target)
        return nn.functional.mse_loss(prediction.to(exact), target)

    def _mask(self, images: Tensor, mask: Tensor | None) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.encoder.in_chans:
            raise UserError(f"images must be (B, {self.encoder.in_chans}, H, W), got {tuple(images.shape)}")
        batch, _, height, width = images.shape
        if height % self.cell or width % self.cell:
            raise UserError(f"images of {height}x{width} are not multiples of the mask cell of {self.cell} pixels")
        shape = (batch, height // self.cell, width // self.cell)
        if mask is None:
            return random_mask(*shape, self.mask_ratio)
        if mask.dtype != torch.bool or tuple(mask.shape) != shape:
            raise UserError(f"mask must be boolean of shape {shape}, got {mask.dtype} {tuple(mask.shape)}")
        if not mask.any():
            raise UserError("the mask hides nothing, so there is nothing to predict")
        if mask.all():
            raise UserError("the mask hides everything, so there is nothing to predict from")
        return mask


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution, channels last: (..., in) to (..., out)."""
    return nn.functional.linear(x, conv.weight.flatten(1), conv.bias)
