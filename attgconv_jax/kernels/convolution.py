"""Dense convolution: `lax.conv_general_dilated`, and on CPU products of patches and filter, or of frequencies.

XLA:CPU's own convolution reaches a fraction of the speed of its matrix product, and its gradients are slower still.
`rows` therefore makes the convolution out of matrix products. Patches are gathered along `y` only,

    Q[x, y, b c] = f[x, y + b, c]                      `l` times the input, not `k l` times
    Z[x, y, a o] = sum over b, c of  Q[x, y, b c] w[a, b, c, o]
    out[x, y, o] = sum over a of  Z[x + a, y, a o]

so both operands of the product are wide even where the convolution has one or four output channels. Where a filter
hangs over most of the image, or moves in strides along `x`, most rows of `Z` would be thrown away: there patches are
gathered along `x` too and multiplied once. The gradients are the transposed products; those of the rows of `Q` that
pad the image with zeros are left out.

With large filters and many channels the products of frequencies (`attgconv_jax.kernels.fourier`) are fewer by far;
the shapes decide. There every output is a sum over all pixels of its image: a NaN makes the whole output of its image
NaN, and rounding is relative to the image's largest pixel (in float32, far from one of 1e5 among ones, 1e-4 to 1e-3 of
the output). With "rows" and "xla" outputs depend on the pixels in their windows alone.

Of `rows` (for frequencies see there):

| quantity | held for | elements an image |
|---|---|---|
| patches `Q`, products `Z` and their gradients | one chunk of images | `x y (l c_in + k c_out)` |
"""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.kernels import chunks
from attgconv_jax.kernels.fourier import fourier_conv, fourier_pays
from attgconv_jax.kernels.linear import bilinear
from attgconv_jax.kernels.settings import Dense, Settings
from attgconv_jax.kernels.taps import Window, add_taps, count_outputs, pad, take_tap, take_taps, xla_conv


def conv(
    f: Float[Array, "batch x y c_in"],
    w: Float[Array, "k l c_in c_out"],
    windows: tuple[Window, Window],
    implementation: Dense | None = None,
) -> Float[Array, "batch x_out y_out c_out"]:
    """Cross-correlates images with a filter.

        out[x, y, o] = sum over a, b, c of  f[x s_x + a d_x - p_x, y s_y + b d_y - p_y, c] w[a, b, c, o]

    Differentiable to any order, forwards and in reverse. bfloat16 accumulates in float32. Products, the derivatives'
    too, have the precision that holds where it is called.

    Options:
      windows: sizes, strides `s`, paddings `p` and dilations `d` along `x` and `y`.
      implementation: "rows" (products of patches, for CPUs), "fourier" (products of frequencies, for CPUs), "xla"
        (`lax.conv_general_dilated`), or None: where the computation is lowered for a CPU the cheaper of the first
        two, "xla" elsewhere; `attgconv_jax.computing` may choose otherwise. With "fourier" every output is a
        sum over all pixels of its image: one NaN makes all of them NaN, and rounding is relative to the largest pixel.
    """
    chunks.require_images(f, w, ranks=(4, 4))
    return _conv(f, w, windows, Settings.of_kernel(implementation, IMPLEMENTATIONS))


@bilinear
@chunks.compiled("step", "settings", "windows")
def _conv(step, settings, windows, f, w, *d_out):
    """The named step of the implementation."""
    implementation = settings.implementation
    pays = not chunks.is_symbolic(f.shape[0]) and fourier_pays(f.shape, w.shape, windows)
    cheaper = "fourier" if pays else "rows"
    on_cpu = implementation if implementation in ("rows", "fourier") else cheaper
    cpu, xla = ((name, functools.partial(IMPLEMENTATIONS[name][step], windows=windows)) for name in (on_cpu, "xla"))
    with settings.restored():
        return chunks.choose(implementation, cpu, xla, f)(f, w, *d_out)


def _xla_forward(f, w, windows):
    if f.shape[1:3] == w.shape[:2] and all(window.low == window.high == 0 for window in windows):
        # The filter lies on the whole image: as a convolution its neighbours are laid out anew on GPUs.
        return jnp.einsum("nabc,abco->no", f, w, preferred_element_type=chunks.sum_dtype(f))[:, None, None].astype(
            f.dtype
        )
    # bfloat16 convolutions transpose only when their output type is their input type.
    out = xla_conv(f, w, windows, preferred_element_type=None if f.dtype == jnp.bfloat16 else f.dtype)
    return out.astype(f.dtype)


def _rows_forward(f, w, windows):
    product = _Product(f.shape, w.shape, windows)
    matrix = product.matrix(w)

    def step(f):
        return product.gather(_matmul(product.patches(f, windows), matrix)).astype(w.dtype)

    return chunks.map_chunks(step, f, product.chunk)


def _rows_backward(f, w, d_out, windows):
    product = _Product(f.shape, w.shape, windows)
    matrix = product.matrix(w)

    def step(d_matrix, chunk):
        f, d_out = chunk
        d_products = product.spread(d_out)
        d_matrix += _matmul_rows(product.patches(f, product.kept), d_products)
        return d_matrix, product.unpatch(_matmul(d_products, matrix.T)).astype(w.dtype)

    d_matrix, d_f = chunks.scan_chunks(step, _zero_sum(matrix), (f, d_out), product.chunk)
    return d_f, product.filter(d_matrix).astype(w.dtype)


def _rows_backward_filter(f, w, d_out, windows):
    product = _Product(f.shape, w.shape, windows)

    def step(d_matrix, chunk):
        f, d_out = chunk
        return d_matrix + _matmul_rows(product.patches(f, product.kept), product.spread(d_out)), ()

    d_matrix, _ = chunks.scan_chunks(step, _zero_sum(product.matrix(w)), (f, d_out), product.chunk)
    return product.filter(d_matrix).astype(w.dtype)


IMPLEMENTATIONS = {
    "rows": {"forward": _rows_forward, "backward": _rows_backward, "backward_filter": _rows_backward_filter},
    "fourier": chunks.by_transposition(fourier_conv),
    "xla": chunks.by_transposition(_xla_forward),
}


class _Product:
    """The convolution as `gather(patches(f, windows) @ matrix(w))`, with the adjoint of each part.

    `split` says whether the filter's rows stay apart until after the product, where `gather` adds them. Gradients then
    need the products of the image's own rows alone, not of those that pad it: their windows are `kept`.
    """

    def __init__(self, f_shape, w_shape, windows):
        self.rows, self.columns = windows
        self.batch, self.length_x, length_y, self.c_in = f_shape
        self.x, self.y = count_outputs(windows, (self.length_x, length_y))
        self.padded_x = self.length_x + self.rows.low + self.rows.high
        self.padded_y = length_y + self.columns.low + self.columns.high
        self.k, self.l, _, self.c_out = w_shape
        self.split = self.rows.stride == 1 and self.padded_x <= 1.5 * self.x
        self.kept = (self.rows._replace(low=0, high=0), self.columns) if self.split else windows

    @property
    def chunk(self) -> int:
        """Images a chunk: as many as stay in the cache, and all of them for a 1x1 filter, which gathers nothing."""
        if self.k == self.l == 1 and not chunks.is_symbolic(self.batch):
            return self.batch
        if self.split:
            elements = self.padded_x * self.y * (self.l * self.c_in + self.k * self.c_out)
        else:
            elements = self.x * self.y * (self.k * self.l * self.c_in + self.c_out)
        return chunks.images_a_chunk(elements)

    def matrix(self, w):
        """`[l c_in, k c_out]` when split, else `[k l c_in, c_out]`."""
        if self.split:
            return w.transpose(1, 2, 0, 3).reshape(self.l * self.c_in, self.k * self.c_out)
        return w.reshape(self.k * self.l * self.c_in, self.c_out)

    def filter(self, matrix):
        """The adjoint (and inverse) of `matrix`."""
        if self.split:
            return matrix.reshape(self.l, self.c_in, self.k, self.c_out).transpose(2, 0, 1, 3)
        return matrix.reshape(self.k, self.l, self.c_in, self.c_out)

    def patches(self, f, windows):
        patches = take_taps(pad(f, windows), self.columns, 2, self.y)
        return patches if self.split else take_taps(patches, self.rows, 1, self.x)

    def unpatch(self, d_patches):
        """The adjoint of `patches` with the windows `kept`."""
        if not self.split:
            d_patches = add_taps(d_patches, self.rows, 1, self.padded_x)
        return pad(add_taps(d_patches, self.columns, 2, self.padded_y), self.kept, sign=-1)

    def gather(self, products):
        if not self.split:
            return products
        return sum(take_tap(tap, self.rows, a, 1, self.x) for a, tap in enumerate(jnp.split(products, self.k, -1)))

    def spread(self, d_out):
        """The adjoint of `gather`, of the rows `kept`: `d_Z[x, a o] = d_out[x + p - a d, o]`, zero outside."""
        if not self.split:
            return d_out
        # Padded once, then cut: XLA fuses a padding for every tap with the concatenation and tests bounds everywhere.
        reach = self.rows.dilation * (self.k - 1)
        around = self.rows._replace(low=reach - self.rows.low, high=reach - self.rows.high)
        d_out = pad(d_out, (around, Window(1)))
        taps = [take_tap(d_out, self.rows, a, 1, self.length_x) for a in reversed(range(self.k))]
        return jnp.concatenate(taps, -1)


def _matmul(rows, matrix):
    return jnp.matmul(rows, matrix, preferred_element_type=chunks.sum_dtype(rows))


def _matmul_rows(left, right):
    """`left^T right`, the sum over all rows of both."""
    left, right = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    return jnp.matmul(left.T, right, preferred_element_type=chunks.sum_dtype(left))


def _zero_sum(x):
    return jnp.zeros(x.shape, chunks.sum_dtype(x))
