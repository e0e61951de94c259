"""Animated pictures of attention to an image that turns."""

import functools
import numbers
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseMaps
from attgconv_jax.checks import check_integer, check_path
from attgconv_jax.filters import disc
from attgconv_jax.groups import cyclic
from attgconv_jax.plotting import common
from attgconv_jax.plotting.common import IMAGE_LOOK, MAP_COLOURS
from attgconv_jax.plotting.layers import layers_of


def turning_animation(
    network: nnx.Module,
    image: Float[Array, "x y 1 c"],
    path: str | os.PathLike,
    *,
    layer: int | str | None = None,
    frames: int = 36,
    channel: int | None = None,
    frames_per_second: float = 10,
) -> pathlib.Path:
    """Writes a GIF of the image turning once, the attention map computed for it, and that map turned back.

    What stands still in the third picture is equivariant; its largest difference from the first frame is written below:
    rounding at right angles, if the network's group has them. At others the image and the map turned back are
    interpolated, and part of the difference is that. The map turned back is shown in the disc that never leaves the
    image.

    Maps are shown as the mean over group elements and input channels. The maps of all frames are computed together.

    Options:
      image: a square one; its minimum fills the corners.
      path: of the file, which ends in ".gif"; one that is there is replaced.
      layer: whose attention is shown, from 0, or by path; None: the first that has attention. Maps have several pixels.
      frames: of one whole turn, at least 2.
      channel: output channel shown, of attention on responses; None: the first.
      frames_per_second: of the animation, 50 at most, beyond which viewers slow down.
    """
    check_path(path)
    path = pathlib.Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"path must end in .gif, which is what is written, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {path.parent.absolute()}")
    frames = check_integer("frames", frames, 2)
    if not isinstance(frames_per_second, numbers.Real) or not 0 < frames_per_second <= 50:
        raise ValueError(f"frames_per_second must be in (0, 50], got {frames_per_second!r}")
    common.check_images("image", image, "[x, x, 1, c]")
    if image.ndim != 4 or image.shape[0] != image.shape[1]:
        raise ValueError(f"image must be a single square one, [x, x, 1, c], got shape {image.shape}")
    layers, turns = layers_of(network), cyclic(frames)
    layer = layers.attending_layer(layer, image[None])

    @jax.jit
    def turn(image):
        return jnp.stack([common.turned_image(image, turns, element) for element in range(frames)])

    @jax.jit
    def turn_back(alpha):
        return jnp.stack([common.turned_back(alpha[g], turns, g, pairs=False) for g in range(frames)])

    images = turn(image)
    alpha = layers.maps(images, layer, functools.partial(_single_map, channel=channel))
    maps, back = (np.array(jnp.mean(f, axis=(-2, -1)), np.float64) for f in (alpha, turn_back(alpha)))
    meaning = common.meaning(layers.combination(layer))
    back[:, disc(back.shape[1]) == 0] = np.nan
    _write(
        path, common.shown_images(images), maps, back, f"attention of {layers.title(layer)}", meaning, frames_per_second
    )
    return path


def _single_map(maps, channel):
    """A layer's attention as one map, the mean over group elements and channels: `[..., x, y, 1, 1]`."""
    if channel is None and isinstance(maps, ResponseMaps):
        channel = 0
    (alpha,) = common.maps_by_channel(maps, channel).values()
    if common.is_matrix(alpha):
        raise ValueError("attention maps of one pixel cannot be seen turning: take attention_figure(turned_back=True)")
    return jnp.mean(alpha, axis=(-2, -1), keepdims=True)


def _write(path, turned, maps, back, title, meaning, frames_per_second):
    """Draws and writes one frame after the other."""
    figure = common.matplotlib("figure").Figure(figsize=(8.4, 3.4), dpi=80, layout="constrained")
    axes = figure.subplots(1, 3)
    looks = [IMAGE_LOOK, *[dict(cmap=MAP_COLOURS, **common.shades(maps))] * 2]
    videos = turned, maps, back
    drawn = [axis.imshow(video[0], **look) for axis, video, look in zip(axes, videos, looks, strict=True)]
    for axis, name in zip(axes, ("image", title, "turned back"), strict=True):
        axis.set(xticks=[], yticks=[], title=name)
    common.colour_bar(figure, drawn[1], axes, maps, meaning, shrink=0.7)

    def show(frame):
        for picture, video in zip(drawn, videos, strict=True):
            picture.set_data(video[frame])
        figure.suptitle(f"turned by {360 * frame / len(turned):.0f}°")
        axes[2].set_xlabel(f"differs from 0° by {np.nanmax(np.abs(back[frame] - back[0])):.1g}")

    # The places are found once, or the pictures would shake with the width of the text.
    show(1)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    writer = common.matplotlib("animation").PillowWriter(fps=frames_per_second)
    with writer.saving(figure, path, figure.dpi):
        for frame in range(len(turned)):
            show(frame)
            writer.grab_frame()
