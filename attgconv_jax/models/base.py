"""What all networks have in common, and the registry that knows them by name."""

import collections
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.antialiasing import circular_mask
from attgconv_jax.attention import ResponseMaps
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_positive
from attgconv_jax.docstrings import argument_help, without_functions
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group
from attgconv_jax.kernels.settings import check_computing, computing
from attgconv_jax.lie import LieGroup
from attgconv_jax.models.settings import frozen, plain
from attgconv_jax.nn.checkpointing import checkpointed
from attgconv_jax.nn.module import Module
from attgconv_jax.nn.norm import RunningVariance, running_variance_of, running_variances
from attgconv_jax.preprocessing import Preprocessing

# Arguments of constructors that the data decide, or the program, or that are described in a way of their own.
_NO_OPTIONS = {"group", "attention", "attention_options", "in_features", "classes", "dtype", "param_dtype", "rngs"}


class Option(NamedTuple):
    """An argument of a network's constructor that a configuration or a command line may set, and its docstring.

    The default is that of the constructor, else that of the registry's `Entry`, else `inspect.Parameter.empty`, where
    the argument must be given.
    """

    type: Any
    default: Any
    help: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network in the registry.

    Attributes:
      name: in configurations, on the command line and in checkpoints.
      network: its class.
      size: pixels that an image must have along each axis; None: any that the group allows.
      stride: product of all strides; along an axis that the group reverses an image needs `stride n + 1` pixels.
      defaults: of configurations and command lines, for arguments of the constructor that have none.
      check_attention: raises a `ValueError` unless the network takes this attention with these options; None: those of
        `OPERATORS`.
    """

    name: str
    network: type[nnx.Module]
    size: int | None = None
    stride: int = 1
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    check_attention: Callable[[str | None, Mapping[str, Any] | None], None] | None = None

    @property
    def lie(self) -> bool:
        """Whether the network is on a `LieGroup`, as the annotation of its argument `group` says."""
        return get_type_hints(self.network.__init__).get("group") is LieGroup

    def options(self) -> dict[str, Option]:
        """The constructor's own arguments by name, without those that all networks have and without functions.

        Of an argument that is a function or the name of one, names are left.
        """
        parameters, hints = inspect.signature(self.network.__init__).parameters, get_type_hints(self.network.__init__)
        texts = collections.ChainMap(*(argument_help(known) for known in self.network.__mro__ if known.__doc__))
        variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        kinds = {name: without_functions(hints.get(name, Any)) for name in parameters}
        return {
            name: Option(kinds[name], self.defaults.get(name, parameter.default), texts.get(name, ""))
            for name, parameter in list(parameters.items())[1:]
            if name not in _NO_OPTIONS and parameter.kind not in variadic and kinds[name] is not None
        }

    def nearest_size(self, size: int, group: Group | LieGroup) -> int:
        """The least number of pixels, of at least `size`, that an image may have along each axis on this group."""
        (size,) = check_positive(size=size)
        if self.size is not None:
            if size > self.size:
                fitting = [
                    entry.name for entry in NETWORKS.values() if entry.lie == self.lie and size <= (entry.size or size)
                ]
                others = f"take {' or '.join(fitting)}, or smaller images" if fitting else "take smaller images"
                raise ValueError(
                    f"size must be at most {self.size}, the pixels that {self.name} takes, got {size}; {others}"
                )
            return self.size
        if self.stride == 1 or not any(group.reversed_axes):
            return size
        return max(1, -(-(size - 1) // self.stride)) * self.stride + 1


NETWORKS: dict[str, Entry] = {}
"""The networks by name; filled by `register`."""


def register(name: str, **further: Any) -> Callable[[type], type]:
    """Decorates a network's class, which then is saved, loaded, drawn and trained by its name.

    The class takes `group`, `attention=None`, `attention_options=None`, `in_features`, `classes`, `dtype`,
    `param_dtype` and `rngs`, and further arguments as it likes; it has `settings`, `group`, `attending_layers`,
    `feature_maps` and `attention_maps`, most simply from `Network`. `further` are fields of `Entry`.
    """

    def decorate(network):
        entry = Entry(name, network, **further)
        known = NETWORKS.setdefault(name, entry).network
        if (known.__module__, known.__qualname__) != (network.__module__, network.__qualname__):
            raise ValueError(f"name must be that of no other network; {name!r} is {known.__qualname__}")
        NETWORKS[name] = entry
        return network

    return decorate


class Network(Module):
    """A network of the registry: its settings, feature maps and attention maps.

    Subclasses say what the network computes (`_features`) and what attention its layers have (`_attentions`). Their
    further arguments, by which they are made again, come here as `settings`: values that JSON can hold.

    Args:
      group: of the convolutions.
      attention: None, or its name.
      attention_options: further arguments of every attention's module.
      in_features: channels of the image.
      classes: number of logits.
      sampling: of all filters, at other than right angles.
      antialiased: whether feature maps are smoothed before pixels are left out (see `attgconv_jax.low_pass`), and
        maxima over windows are smooth (see `attgconv_jax.smooth_max_pool`).
      oversampled: whether the relus between layers see feature maps between the pixels, too; see
        `attgconv_jax.oversampled`, with a Gaussian of half a pixel. Those inside of attention do not.
      masked: whether the image, and the output of every relu between layers, are multiplied by
        `attgconv_jax.circular_mask`: for angles other than right ones, where the corners of an image, 21 % of its area,
        hold nothing of interest. A square border is not invariant to rotation.
      implementation: of its convolutions, those of attention among them; see `attgconv_jax.computing`.
      precision: of all products, and of those of derivatives: "default", "high" or "highest"; None: as JAX is set. See
        `attgconv_jax.computing`.
      dtype: to compute in; see `attgconv_jax.nn`.
      param_dtype: of the parameters; see `attgconv_jax.nn`.
      rngs: its "params" and, for dropout, "dropout" streams are used.

    Attributes:
      preprocessing: of the images that it was trained on, where `load_network` found it beside the network.
      implementation, precision: may be changed at any time.
      gradient_checkpointing: whether the gradient computes the inside of every block (in networks that are a row of
        layers, of every layer) again, and keeps only what enters it: less memory for about one more forward pass.
        False; set it on the network.
    """

    preprocessing: Preprocessing | None = None
    # Of an instance where it is not this, so that graph definitions from before are those of now.
    gradient_checkpointing: bool = False

    def __init__(
        self,
        group: Group | LieGroup,
        attention: str | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        sampling: Sampling | None = None,
        antialiased: bool | None = None,
        oversampled: bool | None = None,
        masked: bool | None = None,
        implementation: str | None = None,
        precision: str | None = None,
        dtype=None,
        **settings,
    ):
        if attention is None and attention_options:
            raise ValueError(f"attention_options need an attention, got {dict(attention_options)} with attention=None")
        if sampling is not None:
            if not isinstance(sampling, Sampling):
                hint = "; a FilterBasis is one of layers" if isinstance(sampling, FilterBasis) else ""
                wanted = 'a Sampling, such as Sampling("least_error")'
                raise ValueError(f"sampling must be {wanted}, got {sampling!r}{hint}")
            settings["sampling"] = sampling
        self.implementation, self.precision = implementation, precision
        check_computing(implementation, precision)
        # None: of a network that has no such argument.
        switches = {"antialiased": antialiased, "oversampled": oversampled, "masked": masked}
        for name, value in switches.items():
            if value is not None:
                (settings[name],) = check_boolean(**{name: value})
                setattr(self, name, settings[name])
        self.group = group
        settings = dict(attention=attention, attention_options=attention_options or {}) | settings
        settings["dtype"] = None if dtype is None else jnp.dtype(dtype).name
        # No dicts: a graph definition that holds one cannot be hashed, nor be a static argument.
        self._settings = tuple((name, frozen(value)) for name, value in settings.items())

    @property
    def settings(self) -> dict[str, Any]:
        """What this network was made with, as JSON can hold it; the rest shows in its parameters."""
        settings = {name: plain(value) for name, value in self._settings}
        computing = {"implementation": self.implementation, "precision": self.precision}
        chosen = {name: value for name, value in computing.items() if value is not None}
        # Of batch norms that differ none is set, so that they are not saved as if they were alike.
        if running_variances(self) == {"unbiased"}:
            chosen["running_variance"] = "unbiased"
        return {"group": dataclasses.asdict(self.group), **settings, **chosen}

    @property
    def running_variance(self) -> RunningVariance:
        """The variance that batch norms keep, those of attention among them; see `attgconv_jax.nn.norm.BatchNorm`.

        `attgconv_jax.nn.norm.set_running_variance` changes it, and it is saved with the network. Batch norms that
        differ raise a `ValueError`.
        """
        return running_variance_of(self)

    @property
    def attending_layers(self) -> list[int]:
        """Which layers have attention, from 0."""
        return [i for i, attention in enumerate(self._attentions()) if attention is not None]

    def __call__(self, image: Float[Array, "*batch x y 1 c"]) -> Float[Array, "*batch classes"]:
        """Logits of standardised images, invariant under the group."""
        with self._computing():
            for f in self._features(image):
                logits = f
        return logits

    def feature_maps(self, image: Float[Array, "*batch x y 1 c"]) -> list[Float[Array, "..."]]:
        """The image as the first layer sees it, the feature maps between the layers, the logits."""
        with self._computing():
            return list(self._features(image))

    def attention_maps(
        self, image: Float[Array, "*batch x y 1 c"]
    ) -> list[Float[Array, "*maps _x _y _h _c"] | ResponseMaps | None]:
        """A map a layer, None where a layer has no attention.

        Attention on responses has `ResponseMaps`, whose spatial maps are large: take few images. In training mode
        running statistics move as in any call, those of attention twice.
        """
        if not self.attending_layers:
            raise ValueError("the network has no attention; make it with attention=...")
        with self._computing():
            layers = zip([*self._attentions(), None], self._features(image), strict=True)
            return [None if attention is None else attention(f) for attention, f in layers][:-1]

    def _computing(self):
        return computing(implementation=self.implementation, precision=self.precision)

    def _block(self, function: Callable[..., Any], module: nnx.Module, *arrays: Any, **static: Any) -> Any:
        """What the function makes of these; with `gradient_checkpointing` its gradient keeps nothing but them."""
        block = functools.partial(function, **static)
        return checkpointed(block, module, *arrays) if self.gradient_checkpointing else block(module, *arrays)

    def _features(self, image: Array) -> Iterator[Array]:
        """Yields what enters every layer, then the logits."""
        raise NotImplementedError

    def _masked(self, image: Array) -> Array:
        """The image, multiplied by `circular_mask` if the network is `masked`."""
        return circular_mask(image) if self.masked else image

    def _attentions(self) -> list[Callable[[Array], Any] | None]:
        """The attention of every layer as a function of what enters it, None where it has none."""
        raise NotImplementedError


def check_module(name: str, module: Any) -> None:
    """Raises a `ValueError` unless this is an `nnx.Module`; a class of them is not one yet."""
    if not isinstance(module, nnx.Module):
        made = isinstance(module, type) and issubclass(module, nnx.Module)
        got = f"the class {module.__name__}: make one first" if made else type(module).__name__
        raise ValueError(f"{name} must be an nnx.Module, got {got}")


def check_image(image: Array, size: int | None = None, in_features: int | None = None) -> None:
    """Raises a `ValueError` unless `image` is `[..., size, size, 1, in_features]`; None: any."""
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"image must be floating, got {image.dtype}; cast and standardise it")
    wanted = size, size, 1, in_features
    if image.ndim < 4 or any(n not in (None, length) for n, length in zip(wanted, image.shape[-4:], strict=True)):
        x, y, _, c = (name if n is None else n for name, n in zip("xy1c", wanted, strict=True))
        misses = image.ndim >= 3 and image.shape[-3] == image.shape[-2] and size in (None, image.shape[-2])
        hint = "; of images [batch, x, y, c] take image[..., None, :]" if misses else ""
        raise ValueError(f"image must be [..., {x}, {y}, 1, {c}], got shape {image.shape}{hint}")
