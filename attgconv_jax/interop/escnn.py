"""Networks of escnn, their layers in ours."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import ArrayLike

from attgconv_jax.bases import FilterBasis
from attgconv_jax.bases.grid import source_pixels
from attgconv_jax.checks import check_boolean
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.interop.arrays import check_finite, common_dtype, plain_arrays
from attgconv_jax.interop.escnn_convention import VERTICAL, escnn_elements, filter_bank_from_escnn
from attgconv_jax.nn import GroupConv, GroupPool
from attgconv_jax.nn.norm import batch_norm

# Names in a state, after that of the layer.
_PART = re.compile(
    r"(?:(?P<layer>.*?)\.)?(?P<part>weights|filter|bias|bias_expansion|expanded_bias|_basisexpansion\..+"
    r"|batch_norm_\[\d+\]\.\w+|(?:in_|out_)?indices_\d+)"
)
_BASIS = re.compile(r"_basisexpansion\.block_expansion_\('(.+)', '(.+)'\)\.sampled_basis")
_NORM = re.compile(r"batch_norm_\[(\d+)\]\.\w+")
_TRIVIAL = ("irrep_0", "irrep_0,0")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_OPTIONS = {
    "convolution": ("stride", "padding", "dilation", "channel_groups", "exact"),
    "batch norm": ("epsilon", "running_variance"),
    "group pooling": (),
}
_EXPAND = "call train() and then eval() on the network before state_dict()"

# Relative to the largest number: rounding of a float32 state is some 1e-7.
_TOLERANCE = 1e-4


def load_escnn(
    state: Mapping[str, ArrayLike],
    group: Group,
    *,
    axis: float = VERTICAL,
    functions: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, GroupConv | nnx.BatchNorm | GroupPool]:
    """Makes layers of the state of an escnn network: `R2Conv`, `InnerBatchNorm` and `GroupPooling`.

    Where escnn is installed, save the state in evaluation mode, which adds the filters to it:

        network.train()
        torch.save(network.eval().state_dict(), "network.pth")

    A state has neither nonlinearities nor the order of calls. The network is put together from the layers:

        layers = load_escnn(read_state("network.pth"), dihedral(8), options={"0": {"padding": 2}})
        network = nnx.Sequential(layers["0"], layers["1"], jax.nn.relu, layers["3"], layers["4"])

    Filters are coefficients of escnn's own functions, as many as its `weights`, and can be trained as those. Of a layer
    from trivial representations they are its `weights`; between regular ones they are coefficients of orthonormal
    functions that span the same filters. Where the group maps the grid to itself filters are free in every pixel.

    Layers are in evaluation mode, of the dtype of the state, and compute what escnn does to rounding; see
    `feature_map_from_escnn` for their arguments.

    Args:
      state: arrays by escnn's names, all of its floating ones of one type, float32 or float64, which needs
        `jax_enable_x64`. Leave out layers of PyTorch's own. A state names no classes: transposed convolutions and norm
        pooling cannot be told from the layers above.
      group: `cyclic(n)` for `rot2dOnR2(n)`, `dihedral(n)` for `flipRot2dOnR2(n)`.
      axis: that of `flipRot2dOnR2`; see `escnn_elements`.
      functions: whether filters are coefficients on groups that map the grid to itself, too.
      options: by layer what its state does not tell: of convolutions `stride`, `padding`, `dilation`, `channel_groups`
        (escnn's `groups`) and `exact`, see `attgconv_jax.nn.GroupConv`; of batch norm `epsilon`, 1e-5 in escnn, and
        `running_variance`, "unbiased" there and "biased" by default, see `attgconv_jax.nn.norm.BatchNorm`.

    Returns:
      Layers by their names in escnn, in the order of the state.

    Raises:
      ValueError: a name or shape that is none of these layers', another representation than trivial and regular ones,
        a group of another order or with another action, a filter that is not that of the weights, numbers that are not
        finite, an option that the layer lacks.

    Source: escnn 1.0.11, of Cesa et al. 2022.
    """
    check_group(group)
    check_boolean(functions=functions)
    escnn_elements(group, axis)
    arrays = plain_arrays(state)
    layers = _layers(arrays)
    _check_options(options, layers)
    floating = {name: array for name, array in arrays.items() if array.dtype.kind not in "iu"}
    dtype = common_dtype(floating) if floating else np.dtype(np.float32)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"state must be float32 or float64, got {dtype.name}")
    check_finite(floating)
    made = {}
    for name, parts in layers.items():
        own, kind = dict((options or {}).get(name, {})), _kind(parts)
        if kind == "convolution":
            made[name] = _convolution(name, parts, group, axis, functions, dtype, own)
        elif kind == "batch norm":
            made[name] = _batch_norm(name, parts, group, dtype, own)
        else:
            made[name] = _group_pool(name, parts, group)
        made[name].eval()
    return made


def _layers(arrays):
    """The arrays by layer and part."""
    layers, unknown = {}, []
    for name, array in arrays.items():
        if match := _PART.fullmatch(name):
            layers.setdefault(match["layer"] or "", {})[match["part"]] = array
        else:
            unknown.append(name)
    unknown += [name for name, parts in layers.items() if _kind(parts) is None]
    if unknown or not layers:
        rest = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        found = ", ".join(map(repr, unknown[:3])) + rest if unknown else "nothing"
        raise ValueError(f"state must hold R2Conv, InnerBatchNorm and GroupPooling of escnn alone, got {found}")
    return layers


def _kind(parts):
    """Which of `_OPTIONS` a layer with these parts is; None: none of them."""
    if "weights" in parts and any(map(_BASIS.fullmatch, parts)):
        return "convolution"
    if any(map(_NORM.fullmatch, parts)):
        return "batch norm"
    return "group pooling" if all(part.startswith(("in_indices_", "out_indices_")) for part in parts) else None


def _check_options(options, layers):
    if options is not None and not (
        isinstance(options, Mapping) and all(isinstance(o, Mapping) for o in options.values())
    ):
        raise ValueError(f"options must map names of layers to options by name, got {options!r}")
    for name, own in (options or {}).items():
        if name not in layers:
            raise ValueError(f"options must be of layers {', '.join(map(repr, layers))}, got {name!r}")
        known = _OPTIONS[_kind(layers[name])]
        if others := [option for option in own if option not in known]:
            raise ValueError(
                f"options of layer {name!r}, {_kind(layers[name])}, must be of {', '.join(known) or 'none'}, got "
                f"{', '.join(map(str, others))}"
            )


def _convolution(name, parts, group, axis, functions, dtype, options):
    weights, sampled, filters, bias = _checked_convolution(name, parts, group)
    size, lifting, (c_out, c_in, _) = filters.shape[-1], sampled.shape[2] == 1, weights.shape
    table = _table(sampled, group, axis)
    _check_action(name, table, group)
    if size > 1 and (functions or not group.is_exact):
        sampling, w = _coefficients(table, weights)
    else:
        sampling, w = Sampling(), filter_bank_from_escnn(filters, group, lifting=lifting, axis=axis)[..., 0, :]
    settings = dict(lifting=lifting, use_bias=bias is not None, sampling=sampling, param_dtype=dtype)
    settings |= dict(kernel_init=jax.nn.initializers.zeros, rngs=nnx.Rngs(0))
    made = GroupConv(c_in * options.get("channel_groups", 1), c_out, size, group, **settings, **options)
    made.w.set_value(jnp.asarray(w, dtype))
    if bias is not None:
        made.bias.set_value(jnp.asarray(bias[:: group.order], dtype))
    return made


def _checked_convolution(name, parts, group):
    """Weights `[c_out, c_in, n]`, sampled basis `[n, h, h_in, u]`, expanded filter and expanded bias, as in escnn."""
    where = f"layer {name!r} of state"
    bases = {match.groups(): array for part, array in parts.items() if (match := _BASIS.fullmatch(part))}
    pairs = list(bases)
    if len(pairs) > 1 or pairs[0][0] not in (*_TRIVIAL, "regular") or pairs[0][1] != "regular":
        found = ", ".join(f"{before} to {after}" for before, after in pairs)
        raise ValueError(f"{where} must be trivial to regular, or regular to regular, got {found}")
    expanded = [("filter", "weights")] + [("expanded_bias", "bias")] * ("bias" in parts)
    if missing := [label for label, _ in expanded if label not in parts]:
        raise ValueError(f"{where} must have {missing[0]}: {_EXPAND}")
    (sampled,), weights, filters = bases.values(), parts["weights"], parts["filter"]
    if sampled.ndim == 4 and sampled.shape[1] != group.order:
        raise ValueError(f"group must be of the order of {where}, {sampled.shape[1]}, got {group}, of {group.order}")
    if not _fit(sampled, weights, filters, parts):
        raise ValueError(
            f"{where} must be a convolution of escnn, got shapes that do not fit: weights {weights.shape}, filter "
            f"{filters.shape}, sampled basis {sampled.shape}"
        )
    weights = weights.reshape(len(filters) // group.order, -1, len(sampled))
    made = [np.einsum("oin,nghu->ogihu", weights, sampled, dtype=np.float64).reshape(filters.shape)]
    if "bias" in parts:
        made.append(parts["bias_expansion"].astype(np.float64) @ parts["bias"])
    for (label, source), values in zip(expanded, made, strict=True):
        if np.max(np.abs(parts[label] - values)) > _TOLERANCE * np.max(np.abs(values)):
            raise ValueError(f"{where} must have the {label} that follows from {source}: {_EXPAND}")
    return weights, sampled, filters, parts.get("expanded_bias")


def _fit(sampled, weights, filters, parts):
    """Whether these are arrays of one convolution, and its bias if it has one."""
    if (sampled.ndim, weights.ndim, filters.ndim) != (4, 1, 4) or 0 in (sampled.size, weights.size, filters.size):
        return False
    n, h, h_in, pixels = sampled.shape
    fields_out, fields_in, size, _ = filters.shape
    c_out, c_in = fields_out // h, fields_in // h_in
    biases = {"bias": (c_out,), "bias_expansion": (fields_out, c_out), "expanded_bias": (fields_out,)}
    return (
        h_in in (1, h)
        and filters.shape == (c_out * h, c_in * h_in, size, size)
        and (pixels, len(weights)) == (size**2, c_out * c_in * n)
        and ("bias" not in parts or all(np.shape(parts.get(label)) == shape for label, shape in biases.items()))
    )


def _table(sampled, group, axis):
    """`table[g, u, n, k] = K_n(u)[g, g k] = psi_nk(g^-1 u)` of the kernels `K_n`; for images there is one `k`."""
    ours = np.argsort(escnn_elements(group, axis))
    kernels = sampled.astype(np.float64)[:, ours]
    if kernels.shape[2] == group.order:
        kernels = np.take_along_axis(kernels[:, :, ours], group.product[None, :, :, None], axis=2)
    return kernels.transpose(1, 3, 0, 2)


def _check_action(name, table, group):
    """Raises a `ValueError` unless elements that map the grid to itself act on the functions as they do in `group`."""
    size = math.isqrt(table.shape[1])
    exact = np.flatnonzero(group.preserves_grid | (size == 1))
    pixel = np.rint(source_pixels(group, size)[exact] + (size - 1) / 2).astype(np.int64)
    for element, source in zip(exact, pixel[..., 0] * size + pixel[..., 1], strict=True):
        error = np.max(np.abs(table[group.product[element]] - table[:, source]))
        if error > _TOLERANCE * np.max(np.abs(table)):
            raise ValueError(f"group must act as in layer {name!r} of state, got {group}, or axis is another one")


def _coefficients(table, weights):
    """The basis of a layer's functions, and the coefficients `[j, h_in, c_in, c_out]` of its filters."""
    order, pixels, count, h_in = table.shape
    if h_in == 1:
        return FilterBasis(table[..., 0]), weights.transpose(2, 1, 0)[:, None]
    flat = table.reshape(order * pixels, count * h_in)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    # Those left out are the rounding of a float32 state: 1e-15 of the largest.
    functions = vectors[:, values > 1e-10 * values[-1]] * math.sqrt(order)
    mix = (functions.T @ flat / order).reshape(-1, count, h_in)
    return FilterBasis(functions.reshape(order, pixels, -1)), np.einsum("jnk,oin->jkio", mix, weights)


def _batch_norm(name, parts, group, dtype, options):
    sizes = sorted({int(match[1]) for part in parts if (match := _NORM.fullmatch(part))})
    arrays = [parts.get(f"batch_norm_[{sizes[0]}].{label}") for label in _STATISTICS]
    (shape, *_), shapes = map(np.shape, arrays), {np.shape(array) for array in arrays}
    if len(sizes) > 1 or sizes[0] not in (1, group.order) or len(shapes) > 1 or len(shape) != 1:
        found = f"sizes {', '.join(map(str, sizes))} and {', '.join(sorted(parts))}"
        raise ValueError(
            f"layer {name!r} of state must have {', '.join(_STATISTICS)} of fields of one size, {group.order} or 1 "
            f"(regular or trivial), got {found}"
        )
    made = batch_norm(shape[0], None, dtype, nnx.Rngs(0), epsilon=options.get("epsilon", 1e-5))
    made.keep_running_variance(options.get("running_variance", "biased"))
    for variable, array in zip((made.scale, made.bias, made.mean, made.var), arrays, strict=True):
        variable.set_value(jnp.asarray(array, dtype))
    return made


def _group_pool(name, parts, group):
    sizes = {part.rpartition("_")[2] for part in parts}
    if sizes != {str(group.order)}:
        raise ValueError(
            f"layer {name!r} of state must pool over {group.order} elements, those of {group}, got fields of size "
            f"{', '.join(sorted(sizes))}"
        )
    return GroupPool("max")
