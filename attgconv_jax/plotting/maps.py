"""Pictures of attention maps under the group's elements."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean
from attgconv_jax.filters import disc
from attgconv_jax.groups import Group, check_group
from attgconv_jax.plotting import common
from attgconv_jax.plotting.common import IMAGE_LOOK, MAP_COLOURS, element_name
from attgconv_jax.plotting.layers import layers_of

# So many numbers can be read in a picture.
_WRITTEN_CELLS = 4


def attention_figure(
    network: nnx.Module,
    images: Float[Array, "image x y 1 c"],
    group: Group | None = None,
    *,
    elements: int | Sequence[int] | None = None,
    layer: int | str | None = None,
    channels: int | Sequence[int] | None = None,
    turned_back: bool = False,
    unstandardise: Callable[[Array], Array] | None = None,
):
    """Images under group elements, each above the attention map that the network computes for it.

    Every map is computed from its own transformed image, not transformed itself: where the network is equivariant the
    maps turn with the image. Turned back, by `g^-1`, they are then all the same; how far they are from that is written
    beside them, as the largest difference between any two of them anywhere, over all group elements and channels.

    Bright is suppressed (of attention that scales instead: kept). Maps are shown as the mean over group elements and
    input channels; those on responses, one an output channel, are between group elements, which `response_figure`
    shows. A map of one pixel, attention to channels alone, is shown as the matrix of group elements (rows) and channels
    (columns), on responses of input and output group elements, which the group permutes. Maps that are constant have
    their value beside them in place of a colour bar.

    Other than right angles are interpolated, with the image's minimum where it ends; turned back, only the disc that
    never leaves the image is shown and compared.

    Options:
      group: whose elements transform the images; None: the network's own.
      elements: of the group, a column each; None: all.
      layer: whose attention is shown, from 0, or by path; None: the first that has attention.
      channels: output channels shown, of attention on responses; None: the first three.
      turned_back: whether to show every map transformed back, too; needs the network's own group (any, if the network
        has the trivial one), and several elements.
      unstandardise: makes of images, as the network gets them, those that are shown; needed where every channel has a
        mean and a deviation of its own: otherwise colours are false. None: images are shown as they are.
    """
    pyplot = common.matplotlib("pyplot")
    common.check_images("images", images, "[image, x, y, 1, c]")
    check_boolean(turned_back=turned_back)
    if images.ndim != 5 or len(images) == 0:
        raise ValueError(f"images must be [image, x, y, 1, c], one at least, got shape {images.shape}")
    layers = layers_of(network)
    if group is not None:
        check_group(group)
    if group is None or turned_back:
        group = layers.check_group(group, "turned_back" if turned_back else "group=None")
    elements = range(group.order) if elements is None else elements
    elements = common.chosen_of(elements, group.order, f"elements of {group}")
    if turned_back and len(elements) == 1:
        raise ValueError("turned_back compares the maps of several elements, got one")
    layer = layers.attending_layer(layer, images)
    transformed = jnp.stack([common.turned_image(images, group, element) for element in elements])
    maps = common.maps_by_channel(layers.maps(transformed, layer), channels)
    pictures = common.before_standardisation(transformed, unstandardise)

    rows = {
        (channel, back): alpha if not back else _turned_back(alpha, group, elements, pairs=channel is not None)
        for channel, alpha in maps.items()
        for back in ((False, True) if turned_back else (False,))
    }
    block, columns = 1 + len(rows), len(elements)
    size = 1.5 * columns + 1.4, 1.5 * block * len(images) + 0.6
    figure = pyplot.figure(figsize=size, layout="constrained")
    axes = figure.subplots(block * len(images), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, element in zip(axes[0], elements, strict=True):
        axis.set_title(element_name(group, element))
    meaning = common.meaning(layers.combination(layer))
    for i in range(len(images)):
        for axis, image in zip(axes[block * i], common.shown_images(pictures[:, i]), strict=True):
            axis.imshow(image, **IMAGE_LOOK)
        axes[block * i, 0].set_ylabel("image")
        for row, ((channel, back), alpha) in enumerate(rows.items(), block * i + 1):
            label = "attention map" if channel is None else f"channel {channel}"
            if back:
                label = f"turned back:\ndiffer by {np.nanmax(np.ptp(alpha[:, i], axis=0)):.1g}"
            axes[row, 0].set_ylabel(label)
            shown = common.shown_map(maps[channel][:, i])
            drawn = _draw(axes[row], alpha[:, i], common.shades(shown))
            if common.is_matrix(alpha):
                _label_matrix(axes[row], alpha, layers.group or group, pairs=channel is not None)
            if not back:
                common.colour_bar(figure, drawn, axes[row : row + 1 + turned_back], shown, meaning, shrink=0.8)
    figure.suptitle(f"Attention of {layers.title(layer)} under the group's elements")
    return figure


def _turned_back(alpha, group, elements, *, pairs):
    """Every element's maps turned back, NaN wherever some element's map has left the picture."""
    maps = [common.turned_back(alpha[j], group, g, pairs=pairs) for j, g in enumerate(elements)]
    back = np.stack(maps, dtype=np.float64)
    if not common.is_matrix(alpha) and not all(group.preserves_grid[elements]):
        back[..., disc(alpha.shape[-4]) == 0, :, :] = np.nan
    return back


def _draw(axes, alpha, shades):
    """A picture for every element; few numbers are written out too."""
    middle = (shades["vmin"] + shades["vmax"]) / 2
    for axis, picture in zip(axes, common.shown_map(alpha), strict=True):
        drawn = axis.imshow(picture, cmap=MAP_COLOURS, **shades)
        if common.is_matrix(alpha):
            axis.set(aspect="auto", box_aspect=1)
            if picture.size <= _WRITTEN_CELLS:
                for (y, x), value in np.ndenumerate(picture):
                    colour = "black" if value > middle else "white"
                    axis.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=7, color=colour)
    return drawn


def _label_matrix(axes, alpha, group, *, pairs):
    """Names rows and columns of maps of one pixel."""
    rows, columns = alpha.shape[-2:]

    def names(length, before=""):
        elements = [before + element_name(group, element) for element in range(length)]
        return dict(ticks=range(length), labels=elements if length > 1 else ["image"], fontsize=7)

    axes[0].set_yticks(**names(rows, "from " * pairs))
    for axis in axes:
        if pairs:
            axis.set_xticks(**names(columns, "to "), rotation=90)
        else:
            axis.set_xlabel(f"{columns} channel{'s' * (columns > 1)}", fontsize=7)
