"""How fast a run trains, and what share of its device's arithmetic that is."""

import jax
import numpy as np
from flax import nnx

PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 836e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}
"""Operations a second in bfloat16, dense, by the beginning of a device's name; from the makers' data sheets."""


def peak(device_kind: str) -> float | None:
    """Of a device, by JAX's name for it; None of one that is not in `PEAKS`, or is a part of one."""
    if " MIG " in device_kind or device_kind == "TPU v4 lite":
        return None
    known = [name for name in PEAKS if f"{device_kind} ".startswith((f"{name} ", f"{name}-"))]
    return PEAKS[max(known, key=len)] if known else None


def forward_flops(network: nnx.Module, image: jax.ShapeDtypeStruct) -> float:
    """Operations of a network's forward pass on images, as XLA counts them before it optimises.

    Lowered for a TPU, whose program has convolutions where a CPU's has loops, which XLA counts once; so it does those
    of attention on responses.
    """
    graph, variables = nnx.split(network)
    traced = jax.jit(lambda variables, image: nnx.merge(graph, variables)(image)).trace(variables, image)
    return traced.lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]


class Throughput:
    """Images a second of training, and the share of a known device's peak that the network's own arithmetic takes.

    share = 3 * operations of a forward pass * images a second / (peak * devices)

    The backward pass counts twice, and what is computed again does not. The peak is that of bfloat16, whatever is
    computed in.

    Args:
      network: abstract will do.
      image_shape: `[x, y, 1, c]`.
      devices: that share the images.

    Source: Chowdhery et al. 2022 (arXiv 2204.02311), appendix B.
    """

    def __init__(self, network: nnx.Module, image_shape: tuple[int, ...], devices: int = 1):
        of_device = peak(jax.devices()[0].device_kind)
        self._share_of_one = None
        if of_device is not None:
            try:
                flops = forward_flops(network, jax.ShapeDtypeStruct((1, *image_shape), np.float32))
            except Exception as error:
                print(f"note: the log has no model FLOP utilisation ({' '.join(str(error).split())})", flush=True)
            else:
                self._share_of_one = 3 * flops / (of_device * devices)
        self._images, self._seconds = 0, 0.0

    def add(self, images: int, seconds: float) -> None:
        """Counts images, of all seeds, and the seconds that they took."""
        self._images, self._seconds = self._images + images, self._seconds + seconds

    def take(self) -> dict[str, float]:
        """The figures of what was counted since they were last taken, and begins anew."""
        rate = self._images / self._seconds
        self._images, self._seconds = 0, 0.0
        figures = {"images_per_second": rate}
        if self._share_of_one is not None:
            figures["model_flop_utilisation_percent"] = 100 * self._share_of_one * rate
        return figures
