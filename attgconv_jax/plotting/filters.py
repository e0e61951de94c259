"""Pictures of filters under the group's elements."""

from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.filters import Sampling, filter_bank
from attgconv_jax.groups import Group
from attgconv_jax.plotting.common import FILTER_COLOURS, chosen_of, element_name, matplotlib

# Of the frames around one filter's pictures; Okabe and Ito 2008, and in neither arm of `FILTER_COLOURS`.
_FRAME = "#009E73"


def filter_bank_figure(bank: Float[Array, "k k h_in c_in h c_out"], group: Group, *, c_in: int = 0, c_out: int = 0):
    """One filter under every group element: a row an input group element, a column an output one.

    Framed is, in every column, the same plane of the filter: what the group element turns, it also moves to another
    row. `bank` is that of `attgconv_jax.filter_bank`, of which the channels `c_in`, `c_out` are shown.
    """
    chosen_of([c_in], bank.shape[3], "input channels")
    chosen_of([c_out], bank.shape[5], "output channels")
    return _grid({"": np.asarray(bank[:, :, :, c_in, :, c_out])}, group)


def layer_filters_figure(layer: nnx.Module, *, c_in: int | Sequence[int] = 0, c_out: int | Sequence[int] | None = None):
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
      layer: a group convolution, with attention or not.
      c_in, c_out: channels shown; output channels for each of the input channels, None: the first four of a lifting
        layer, else the first two.
    """
    layer = getattr(layer, "conv", layer)
    if not hasattr(layer, "w") or not hasattr(layer, "group"):
        got = type(layer).__name__
        raise ValueError(f"layer must be a group convolution, with a filter `w` and a `group`, got {got}")
    bank = np.asarray(filter_bank(layer.w[...], layer.group, sampling=getattr(layer, "sampling", Sampling())))
    inputs = chosen_of(c_in, bank.shape[3], "input channels")
    if c_out is None:
        c_out = range(min(4 if bank.shape[2] == 1 else 2, bank.shape[5]))
    outputs = chosen_of(c_out, bank.shape[5], "output channels")
    blocks = {f"input {c}\noutput {o}": bank[:, :, :, c, :, o] for o in outputs for c in inputs}
    return _grid(blocks, layer.group)


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
