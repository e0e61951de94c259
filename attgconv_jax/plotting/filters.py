"""Pictures of filters under the group's elements."""

from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.filters import Sampling, filter_bank
from attgconv_jax.groups import Group, check_group
from attgconv_jax.plotting.common import FILTER_COLOURS, check_drawable, chosen_of, element_name, matplotlib
from attgconv_jax.plotting.found import find_convolutions

# Of the frames around one filter's pictures; Okabe and Ito 2008, and in neither arm of `FILTER_COLOURS`.
_FRAME = "#009E73"


def filter_bank_figure(
    bank: Float[Array, "k k h_in c_in h c_out"] | nnx.Module,
    group: Group | None = None,
    *,
    path: str | None = None,
    c_in: int = 0,
    c_out: int = 0,
):
    """One filter under every group element: a row an input group element, a column an output one.

    Framed is, in every column, the same plane of the filter: what the group element turns, it also moves to another
    row.

    Options:
      bank: that of `attgconv_jax.filter_bank`; or a network, of whose convolution it is taken.
      group: of the bank; None: the convolution's.
      path: of the convolution in the network; see `layer_filters_figure`.
      c_in, c_out: channels shown.
    """
    if isinstance(bank, nnx.Module):
        bank, own = _bank(bank, path)
        if group not in (None, own):
            raise ValueError(f"group must be {own}, that of the convolution, or left out, got {group}")
        group = own
    elif path is not None or group is None:
        what = "path must be left out" if path is not None else "group must be given"
        raise ValueError(f"{what} of a bank that is an array; a network has convolutions by path, and their group")
    check_group(group)
    check_drawable("bank", bank, "[k, k, h_in, c_in, h, c_out]")
    if len(bank.shape) != 6 or bank.shape[4] != group.order:
        raise ValueError(
            f"bank must be [k, k, h_in, c_in, h, c_out] with h = {group.order} for {group}, got {bank.shape}"
        )
    if bank.shape[0] != bank.shape[1] or bank.shape[2] not in (1, group.order) or 0 in bank.shape:
        raise ValueError(
            f"bank must be of square filters on an image or on {group}, h_in = 1 or {group.order}, and not empty, got "
            f"{bank.shape}"
        )
    chosen_of([c_in], bank.shape[3], "input channels")
    chosen_of([c_out], bank.shape[5], "output channels")
    return _grid({"": np.asarray(bank[:, :, :, c_in, :, c_out])}, group)


def layer_filters_figure(
    layer: nnx.Module,
    *,
    path: str | None = None,
    c_in: int | Sequence[int] = 0,
    c_out: int | Sequence[int] | None = None,
):
    """Filters of a layer under every group element: a column an output group element.

    A filter of a lifting layer is one row, in which it turns. A filter on feature maps is a block of rows, one an input
    group element: its planes turn and change rows. Framed is, in every column, the plane of the identity. All pictures
    share one scale.

    >>> from flax import nnx
    >>> from attgconv_jax import cyclic, plotting
    >>> from attgconv_jax.nn import GroupConv
    >>> layer = GroupConv(3, 8, 5, cyclic(4), lifting=True, rngs=nnx.Rngs(0))
    >>> plotting.layer_filters_figure(layer, c_out=[0, 1, 2]).savefig("filters.png")  # doctest: +SKIP

    Options:
      layer: a group convolution, with attention or not, or any network that has some.
      path: of the convolution in the network, such as "convolutions.0"; None: the first that lifts, else the first, in
        the order of `nnx.iter_graph`.
      c_in, c_out: channels shown; output channels for each of the input channels, None: the first four of a lifting
        layer, else the first two.
    """
    bank, group = _bank(layer, path)
    inputs = chosen_of(c_in, bank.shape[3], "input channels")
    if c_out is None:
        c_out = range(min(4 if bank.shape[2] == 1 else 2, bank.shape[5]))
    outputs = chosen_of(c_out, bank.shape[5], "output channels")
    blocks = {f"input {c}\noutput {o}": bank[:, :, :, c, :, o] for o in outputs for c in inputs}
    return _grid(blocks, group)


def _bank(network, path):
    """The filter bank of a network's convolution, and its group."""
    convolutions = find_convolutions(network) if isinstance(network, nnx.Module) else {}
    if not convolutions:
        got = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        raise ValueError(
            f"layer must be a group convolution, with a filter `w` and a `group`, got {got}; or a network that has one"
        )
    if path is not None and path not in convolutions:
        raise ValueError(f"path must be that of a group convolution, one of {', '.join(convolutions)}; got {path!r}")
    lifting = (known for known, layer in convolutions.items() if layer.w.shape[-3] == 1)
    layer = convolutions[next(lifting, next(iter(convolutions))) if path is None else path]
    sampling = getattr(layer, "basis", None) or getattr(layer, "sampling", Sampling())
    w = filter_bank(layer.w[...], layer.group, sampling=sampling)
    return np.asarray(w), layer.group


def _grid(blocks: Mapping[str, Float[np.ndarray, "k k h_in h"]], group: Group):
    """A block of rows for every filter: of several rows under its name, of a single one beside it."""
    rows, columns = next(iter(blocks.values())).shape[2:]
    limit = max(np.max(np.abs(block)) for block in blocks.values())
    heading = 0.35 if rows > 1 and len(blocks) > 1 else 0.001
    size = columns + 2, (rows + heading) * len(blocks) + 1
    figure = matplotlib("pyplot").figure(figsize=size, layout="constrained")
    heights = [heading, *[1] * rows] * len(blocks)
    grid = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=dict(height_ratios=heights))
    pictures = []
    for (name, filters), axes in zip(blocks.items(), np.split(grid, len(blocks)), strict=True):
        for axis in axes[0]:
            axis.axis("off")
        if heading == 0.35:
            axes[0, 0].text(0, 0, name.replace("\n", ", "), fontweight="bold", in_layout=False)
        for i, j in np.ndindex(rows, columns):
            axis = axes[i + 1, j]
            drawn = axis.imshow(filters[:, :, i, j], cmap=FILTER_COLOURS, vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
            if rows > 1 and i == j:
                axis.spines[:].set(color=_FRAME, linewidth=3)
            pictures.append(axis)
        for i, axis in enumerate(axes[1:, 0]):
            axis.set_ylabel(f"from {element_name(group, i, short=True)}" if rows > 1 else name)
    for j, axis in enumerate(grid[1]):
        axis.set_title(("to " if rows > 1 else "") + element_name(group, j, short=True), fontsize="medium")
    figure.colorbar(drawn, ax=pictures, label="weight", shrink=0.7, aspect=30)
    framed = "\nframed: one and the same plane of a filter" if rows > 1 else ""
    figure.suptitle(f"Filters under the group's elements{framed}", fontsize="medium")
    return figure
