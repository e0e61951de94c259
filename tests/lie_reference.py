"""Weights of the separable paper's code in this library's order."""

import jax.numpy as jnp

from attgconv_jax.lie import LieWeights, Linear, SirenWeights

# The kernel networks of the reference by kind, in the order of our factors.
NAMES = {
    "lifting": ("cknet",),
    "nonseparable": ("cknet",),
    "gseparable": ("cknet_H", "cknet_Rn"),
    "separable": ("cknet_H", "cknet_Rn"),
    "dseparable": ("cknet",),
    "dgseparable": ("cknet_H", "cknet_Rn"),
    "separable+2d": ("cknet_SO2", "cknet_Rplus", "cknet_Rn"),
    "gseparable+2d": ("cknet_SO2", "cknet_Rplus", "cknet_Rn"),
}
# Of those, the ones with a value for every pair of channels, where not all or none are.
PAIRS = {"separable": ("cknet_H",), "separable+2d": ("cknet_SO2",)}


def siren_weights(data, name, c_in=1):
    """Of the network of this name; values `(o, i)` of its last layer become `(i, o)`."""

    def layer(key, c_in=1):
        w, b = jnp.asarray(data[f"{key}.weight"]), jnp.asarray(data[f"{key}.bias"])
        return Linear(
            w.reshape(-1, c_in, w.shape[-1]).transpose(2, 1, 0).reshape(w.shape[-1], -1),
            b.reshape(-1, c_in).T.reshape(-1),
        )

    hidden = []
    while f"{name}net.net.{len(hidden)}.linear.weight" in data:
        hidden.append(layer(f"{name}net.net.{len(hidden)}.linear"))
    return SirenWeights(tuple(hidden), layer(f"{name}final_linear", c_in))


def lie_weights(data, prefix, kind, c_in):
    """Of a layer of this kind."""
    factors = []
    for name in NAMES[kind]:
        key = f"{prefix}kernel.{name}."
        values = data[f"{key}final_linear.bias"].shape[0]
        pairs = kind in ("lifting", "nonseparable", "gseparable", "gseparable+2d") or name in PAIRS.get(kind, ())
        assert not pairs or values % c_in == 0
        factors.append(siren_weights(data, key, c_in if pairs else 1))
    projection = f"{prefix}depthwise_projection.weight"
    return LieWeights(tuple(factors), jnp.asarray(data[projection]) if projection in data else None)
