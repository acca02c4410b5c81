"""The ConvNeXt block, written once over sites; V2 with GRN, V1 with LayerScale (Woo et al. 2023, figure 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as _module

from convnextv2 import ops
from convnextv2.errors import UserError
from convnextv2.models.grid import DENSE, Grid, apply

LAYER_NORM_EPS = 1e-6


class DepthwiseConv(nn.Conv2d):
    """The 7x7 depthwise convolution over the sites of a grid."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, kernel_size=7, padding=3, groups=dim)

    def forward(self, input: Tensor, grid: Grid = DENSE) -> Tensor:
        """Convolve over the sites.  input: maps of `grid`, (N, C, H, W); returns the same."""
        assert self.bias is not None
        return grid.maps(grid.depthwise(grid.sites(input), self.weight, self.bias))


class GRN(nn.Module):
    """Global response normalisation with its two parameters, (1, 1, 1, C) each and zero at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, h: Tensor, grid: Grid = DENSE) -> Tensor:
        """Return `grn(gelu(h))` over the existing sites of each image; one operation, as GRN always follows GELU.

        h: sites of `grid`, (B, ..., C); returns the same.
        """
        return ops.gelu_grn(grid.zero_absent(h), self.gamma, self.beta)


class Block(nn.Module):
    """Depthwise 7x7, LayerNorm, expand four times, GELU, GRN (V2), project, LayerScale (V1), drop path, add."""

    def __init__(self, dim: int, *, grn: bool = True, drop_path_rate: float = 0.0, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = DepthwiseConv(dim)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.grn = GRN(4 * dim) if grn else None
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = None if grn else nn.Parameter(layer_scale * torch.ones(dim))
        self.drop_path_rate = drop_path_rate

    def forward(self, x: Tensor, grid: Grid = DENSE, keep: Tensor | None = None) -> Tensor:
        """Apply the block.  x: maps of `grid`, (N, C, H, W); returns the same.

        keep: numbers of the sites whose output is needed, counted over all but the channel axis; then
        (len(keep), C) is returned. Only without drop path, which needs whole images.
        """
        sites = grid.sites(x)
        if self.training and self.drop_path_rate:
            assert keep is None
            # Grids that are not dense hold the cells of all images, so that none can be left out.
            y = drop_path(sites, lambda some: self._branch(some, grid), self.drop_path_rate, skip=grid.dense)
            return grid.maps(y)
        if keep is not None:
            return ops.gather_rows(sites.flatten(0, -2), keep) + self._branch(sites, grid, keep)
        if self.grn is not None and grid.dense and not torch.is_grad_enabled() and self._is_plain(sites):
            return grid.maps(self._at_once(sites, grid, self.grn))
        return x + grid.maps(self._branch(sites, grid))

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse `torch.jit.script`, which calls this: it cannot compile a choice among implementations."""
        raise UserError(
            "torch.jit.script cannot compile these models; "
            "use torch.jit.trace(model, images), torch.export or torch.compile"
        )

    def _at_once(self, x: Tensor, grid: Grid, grn: GRN) -> Tensor:
        """Apply the block to sites with its pointwise half as one operation, which keeps no intermediate tensors."""
        expand, project = self.pwconv1, self.pwconv2
        y = self.norm(grid.sites(apply(self.dwconv, grid.maps(x), grid)))
        return ops.residual_mlp(
            y, x, (expand.weight, expand.bias), (grn.gamma, grn.beta), (project.weight, project.bias)
        )

    def _is_plain(self, x: Tensor) -> bool:
        """Whether nothing would be seen or done by calling the parts of the pointwise half but their own arithmetic."""
        parts = ((self.pwconv1, nn.Linear), (self.grn, GRN), (self.pwconv2, nn.Linear))
        return not (_has_global_hooks() or ops.is_observed(x)) and all(_is_untouched(*part) for part in parts)

    def _branch(self, x: Tensor, grid: Grid, keep: Tensor | None = None) -> Tensor:
        x = grid.sites(apply(self.dwconv, grid.maps(x), grid))
        x = self.norm(x)
        x = self.pwconv1(x)  # (B, ..., 4C)
        x = F.gelu(x) if self.grn is None else apply(self.grn, x, grid)
        if keep is not None:
            x = ops.gather_rows(x.flatten(0, -2), keep)
        x = self.pwconv2(x)
        return x if self.gamma is None else x * self.gamma


def _has_global_hooks() -> bool:
    """Whether hooks are registered for all modules, as by profilers and FLOP counters."""
    return bool(
        _module._global_forward_hooks
        or _module._global_forward_pre_hooks
        or _module._global_backward_hooks
        or _module._global_backward_pre_hooks
    )


def _is_untouched(part: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module is of exactly this class and has no hook, no `forward` of its own and no unusual parameters."""
    return (
        part is not None
        and type(part) is kind
        and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks)
        and "forward" not in part.__dict__
        and all(type(parameter) in (nn.Parameter, Tensor) for parameter in part._parameters.values())
    )


def drop_path(x: Tensor, branch: Callable[[Tensor], Tensor], rate: float, *, skip: bool = True) -> Tensor:
    """Return `x + branch(x)`, with the branch of whole images dropped (stochastic depth, Huang et al. 2016).

    It is dropped with probability `rate`, and the others are scaled up to keep the mean.

    x: (B, ...), one image an entry of the first axis.  branch: must treat each image separately.  rate: at least 0,
    below 1.  skip: do not compute what is dropped while training on a CPU; a GPU would have to wait for the
    number of images left, and a compiler or another tool would see each number as a case of its own.
    """
    kept = _draw(x, 1 - rate)
    if skip and torch.is_grad_enabled() and _is_eager(x):
        images = kept.flatten().nonzero().flatten()
        # With none the branch's parameters would have no gradient, which other processes may be waiting for.
        if 0 < len(images) < len(x):
            taken = branch(x.index_select(0, images)).to(x.dtype)
            return x.index_add(0, images, taken, alpha=1 / (1 - rate))
    return x + branch(x) * kept / (1 - rate)


@torch.fx.wrap
def _draw(x: Tensor, probability: float) -> Tensor:
    """Return ones with this probability, else zeros: one an entry of the first axis of x, (B, 1, ..., 1)."""
    return x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(probability)


def _is_eager(x: Tensor) -> bool:
    """Whether x is an ordinary tensor on a CPU, and no compiler or other tool sees what is computed."""
    if torch.compiler.is_compiling() or ops.is_observed(x) or torch._C._len_torch_dispatch_stack():
        return False
    return x.device.type == "cpu"
