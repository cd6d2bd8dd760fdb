"""Layers and models in evaluation as ONNX programs: a scan over time with the population statistics as its constants.

Needs the extra ``bnrnn[onnx]``. What is written opens in any runtime of ONNX, without bnrnn.
"""

try:
    import onnx as _onnx  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the package {error.name} is missing; bnrnn.onnx needs pip install 'bnrnn[onnx]'", name=error.name
    ) from error

from bnrnn.onnx.layers import export_step
from bnrnn.onnx.models import export

__all__ = ["export", "export_step"]
