"""Networks as files that others can run: StableHLO through `jax.export`, or ONNX."""

from attgconv_jax.export.write import PLATFORMS, export_network

__all__ = ["PLATFORMS", "export_network"]
