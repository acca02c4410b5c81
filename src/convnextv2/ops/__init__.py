"""Functions on tensors worth a kernel; each has a plain-torch reference that reads like the definition."""

from convnextv2.ops.depthwise import depthwise
from convnextv2.ops.dispatch import force, implementation
from convnextv2.ops.grn import gelu_grn, grn
from convnextv2.ops.rows import gather_rows, scatter_rows

__all__ = ["depthwise", "force", "gather_rows", "gelu_grn", "grn", "implementation", "scatter_rows"]
