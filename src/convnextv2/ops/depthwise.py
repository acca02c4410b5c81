"""The 7x7 depthwise convolution, channels last: over whole images, and over cells that were cut out of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnextv2.ops.registry import Operation, register
from convnextv2.ops.rows import gather_rows, scatter_rows, zeros_with


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the depthwise convolution, stride 1, zero padding to the same size.

    x: (B, H, W, C).  weight: (C, 1, k, k) with odd k, cross-correlation as in PyTorch.  bias: (C,).
    Returns (B, H, W, C). Under autocast it runs in the autocast type, as every convolution does.
    """
    return _depthwise(*_autocast(x, weight, bias))


def depthwise_cells(x: Tensor, lines: Tensor, canvas: tuple[int, int, int], weight: Tensor, bias: Tensor) -> Tensor:
    """Return the depthwise convolution of cells that lie on an otherwise empty (zero) canvas.

    x: (n, u, u, C), n cells of u x u sites.  lines: (n * u,) int64, the position of each line of u sites of each cell
    on the canvas, counted in runs of u sites in row-major order; none twice.  canvas: its size, (B, H, W), W a
    multiple of u.  weight, bias: as for `depthwise`.  Returns (n, u, u, C), the convolution at the cells' sites.
    """
    x, weight, bias = _autocast(x, weight, bias)
    return _depthwise_cells(x, lines, canvas, weight, bias)


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    device = tensors[0].device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):  # not for meta tensors
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        # There PyTorch sums the gradients in bf16, which is off by 2 %.
        return _convolve(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)
    x_nchw = x.permute(0, 3, 1, 2)  # a view: the memory stays channels last
    y_nchw = F.conv2d(x_nchw, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])
    return y_nchw.permute(0, 2, 3, 1)


def _convolve_cells(x: Tensor, lines: Tensor, canvas: tuple[int, int, int], weight: Tensor, bias: Tensor) -> Tensor:
    """Scatter, convolve, gather."""
    length = canvas[0] * canvas[1] * canvas[2] // x.shape[1]
    table = scatter_rows(x.reshape(len(lines), -1), lines, length)
    y = depthwise(table.view(*canvas, -1), weight, bias)
    return gather_rows(y.reshape(length, -1), lines).view(x.shape)


def _weight_gradient(x: Tensor, dy: Tensor, weight: Tensor) -> Tensor:
    """Correlate each channel of each image with `dy`: a depthwise convolution of (image, channel) pairs.

    In it `dy` is the kernel, and the k x k result is the gradient.
    """
    batch, height, width, channels = x.shape
    pairs = x.permute(1, 2, 0, 3).reshape(height, width, batch * channels)  # pairs last
    kernels = dy.permute(0, 3, 1, 2).reshape(batch * channels, 1, height, width)
    per_image = F.conv2d(pairs.permute(2, 0, 1)[None], kernels, padding=weight.shape[-1] // 2, groups=batch * channels)
    return per_image.view(batch, *weight.shape).sum(0)


class _FusedDepthwise(torch.autograd.Function):
    """Both gradients as forward depthwise convolutions, which CPU libraries do best.

    The input's gradient is the convolution of `dy` with the mirrored kernel. The backward pass is plain torch, so that
    it can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        dx = _convolve(dy, weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None
        return dx, _weight_gradient(x, dy, weight), dy.sum((0, 1, 2))


class _FusedCells(torch.autograd.Function):
    """`_FusedDepthwise` on the canvas; zeros are written once, without a copy that is discarded.

    The canvas before the convolution is a second result: it is kept for the backward pass, and as a result it has a
    gradient where that pass is differentiated again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lines: Tensor, canvas: tuple[int, int, int], weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.length = x.shape, canvas[0] * canvas[1] * canvas[2] // x.shape[1]
        laid = zeros_with(x.reshape(len(lines), -1), lines, ctx.length).view(*canvas, -1)
        ctx.save_for_backward(laid, lines, weight)
        y = _convolve(laid, weight, bias)
        return y.reshape(ctx.length, -1).index_select(0, lines).view(x.shape), laid

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, dy: Tensor | None, d_laid: Tensor | None
    ) -> tuple[Tensor | None, None, None, Tensor | None, Tensor | None]:
        laid, lines, weight = ctx.saved_tensors
        d_weight = d_bias = None
        if dy is not None:
            d_result = zeros_with(dy.reshape(len(lines), -1), lines, ctx.length).view(laid.shape)
            d_weight, d_bias = _weight_gradient(laid, d_result, weight), d_result.sum((0, 1, 2))
            if ctx.needs_input_grad[0]:
                through = _convolve(d_result, weight.flip(2, 3), None)
                d_laid = through if d_laid is None else d_laid + through
        dx = None
        if d_laid is not None and ctx.needs_input_grad[0]:
            dx = d_laid.reshape(ctx.length, -1).index_select(0, lines).view(ctx.shape)
        return dx, None, None, d_weight, d_bias


@torch.library.custom_op("convnextv2::depthwise", mutates_args=())
def _operator(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _convolve(x, weight, bias).contiguous()


@torch.library.custom_op("convnextv2::depthwise_backward", mutates_args=())
def _backward_operator(x: Tensor, dy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dy = dy.contiguous()
    dx = _convolve(dy, weight.flip(2, 3), None).contiguous()
    return dx, _weight_gradient(x, dy, weight), dy.sum((0, 1, 2))


@_operator.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@_backward_operator.register_fake
def _(x: Tensor, dy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(len(weight))


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    return _backward_operator(x, dy, weight)


_operator.register_autograd(_backward, setup_context=_save)


def _accepts(x: Tensor, *_: Any) -> str | None:
    """CPU libraries convolve forward much faster than backward, and not in double precision."""
    if x.device.type != "cpu":
        return f"for CPUs only, not {x.device.type}"
    if x.dtype == torch.float64:
        return "not for float64"
    return None if torch.is_grad_enabled() else "no gradients are recorded"


def _accepts_cells(x: Tensor, *rest: Any) -> str | None:
    return "its parts accept compiling" if torch.compiler.is_compiling() else _accepts(x)


_depthwise = Operation("depthwise", _convolve)
_depthwise_cells = Operation("depthwise_cells", _convolve_cells)
register("depthwise", "fused", _accepts, _FusedDepthwise.apply, compiled=_operator)
register("depthwise_cells", "fused", _accepts_cells, lambda *arguments: _FusedCells.apply(*arguments)[0])
