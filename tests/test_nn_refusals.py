"""What the NNX modules refuse, and that they say what would work."""

import inspect

import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import assert_refused, random

import attgconv_jax.nn
from attgconv_jax import cyclic, equivariance_error, group_conv, max_pool
from attgconv_jax.lie import rotations
from attgconv_jax.models import NETWORKS, AllCNN, ResNet, RotMNISTNet
from attgconv_jax.nn import (
    ATTENTIONS,
    AttentiveGroupConv,
    CoAttention,
    GroupConv,
    GroupPool,
    InputAttention,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
    SpatialPool,
)

P4 = cyclic(4)
LIE = "group must be a finite Group such as attgconv_jax.cyclic(4), got rotations(4); what Lie groups have is in"

ERRORS = {
    "no input channels": (
        lambda: GroupConv(0, 3, 3, P4, rngs=nnx.Rngs(0)),
        "in_features must be an integer of at least 1",
    ),
    "Lie group": (lambda: GroupConv(3, 3, 3, rotations(4), rngs=nnx.Rngs(0)), LIE),
    "Lie group to separate": (lambda: SeparableGroupConv(3, 3, 3, rotations(4), rngs=nnx.Rngs(0)), LIE),
    **{
        f"Lie group of {name}": (lambda name=name: ATTENTIONS[name](16, rotations(4), rngs=nnx.Rngs(0)), LIE)
        for name in ATTENTIONS
    },
    "Lie group of selective kernels": (lambda: SelectiveKernelGroupConv(8, 8, 3, rotations(4), rngs=nnx.Rngs(0)), LIE),
    "Lie group of a network": (lambda: RotMNISTNet(rotations(4), rngs=nnx.Rngs(0)), LIE),
    "Lie group of an All-CNN": (lambda: AllCNN(rotations(4), rngs=nnx.Rngs(0)), LIE),
    "Lie group of a residual network": (lambda: ResNet(18, rotations(4), rngs=nnx.Rngs(0)), LIE),
    "Lie group of responses": (lambda: ResponseAttentiveGroupConv(3, 3, 3, rotations(4), rngs=nnx.Rngs(0)), LIE),
    "Lie group to pool on": (lambda: SpatialPool(rotations(4)), LIE),
    "Lie group of a function": (lambda: group_conv(random(1, 5, 5, 1, 2), random(3, 3, 1, 2, 3), rotations(4)), LIE),
    "Lie group of a pooling": (lambda: max_pool(random(1, 6, 6, 4, 2), rotations(4)), LIE),
    "Lie group of a measure": (
        lambda: equivariance_error(abs, random(1, 5, 5, 4, 2), rotations(4)),
        "got rotations(4); the error under elements of a Lie group is what attgconv_jax.band_limited_error measures",
    ),
    **{
        f"{module.__name__} with {name}": (
            lambda module=module, options={name: value}: module(8, 8, 3, P4, **options, rngs=nnx.Rngs(0)),
            f"{module.__name__} has no argument '{name}'; it takes in_features, out_features, kernel_size, group, ",
        )
        for module, name, value in [
            (SeparableGroupConv, "lifting", False),
            (SeparableGroupConv, "channel_groups", 2),
            (ResponseAttentiveGroupConv, "use_bias", True),
            (SelectiveKernelGroupConv, "dilation", 2),
            (SelectiveKernelGroupConv, "strides", 2),
        ]
    },
    "no output channels": (
        lambda: GroupConv(3, 0, 3, P4, rngs=nnx.Rngs(0)),
        "out_features must be an integer of at least 1",
    ),
    "no pixels": (
        lambda: GroupConv(3, 3, 0, P4, rngs=nnx.Rngs(0)),
        "kernel_size must be an integer of at least 1, got 0",
    ),
    "half a channel": (
        lambda: GroupConv(2.5, 3, 3, P4, rngs=nnx.Rngs(0)),
        "in_features must be an integer of at least 1",
    ),
    "True channels": (
        lambda: GroupConv(3, True, 3, P4, rngs=nnx.Rngs(0)),
        "out_features must be an integer of at least 1",
    ),
    "unknown initialiser": (
        lambda: GroupConv(3, 3, 3, P4, kernel_init="orthogonal", rngs=nnx.Rngs(0)),
        "must be one of he_normal, paper_uniform, paper_normal or a function, got 'orthogonal'",
    ),
    "attention on no channels": (
        lambda: InputAttention(0, P4, rngs=nnx.Rngs(0)),
        "features must be an integer of at least 1",
    ),
    "no hidden channels": (
        lambda: InputAttention(3, P4, hidden_features=0, rngs=nnx.Rngs(0)),
        "hidden_features must be an integer of at least 1, got 0",
    ),
    "no dilation": (
        lambda: InputAttention(3, P4, dilation=0, rngs=nnx.Rngs(0)),
        "dilation must be an integer of at least 1",
    ),
    "even attention filter": (lambda: InputAttention(3, P4, kernel_size=4, rngs=nnx.Rngs(0)), "must be odd"),
    "no attention": (
        lambda: InputAttention(3, P4, channel=False, spatial=False, rngs=nnx.Rngs(0)),
        "needs channel=True or spatial=True",
    ),
    "co-attention on no channels": (
        lambda: CoAttention(0, P4, rngs=nnx.Rngs(0)),
        "features must be an integer of at least 1",
    ),
    "even filter of attention on responses": (
        lambda: ResponseAttentiveGroupConv(3, 3, 3, P4, attention_kernel_size=4, rngs=nnx.Rngs(0)),
        "attention_kernel_size must be odd, or attention is off centre, got 4",
    ),
    "no attention on responses": (
        lambda: ResponseAttentiveGroupConv(3, 3, 3, P4, channel=False, spatial=False, rngs=nnx.Rngs(0)),
        "needs channel=True or spatial=True: with neither it is GroupConv",
    ),
    "no dilation of attention on responses": (
        lambda: ResponseAttentiveGroupConv(3, 3, 3, P4, attention_dilation=0, rngs=nnx.Rngs(0)),
        "attention_dilation must be an integer of at least 1, got 0",
    ),
    "unknown attention": (
        lambda: AttentiveGroupConv(3, 3, 3, P4, attention="spatial", rngs=nnx.Rngs(0)),
        "attention must be one of bam, cbam, co, coordinate, eca, gc, ge, non_local, self, input, ",
    ),
    "attentive without channels": (
        lambda: AttentiveGroupConv(3, 0, 3, P4, rngs=nnx.Rngs(0)),
        "out_features must be an integer of at least 1",
    ),
    "unknown projection": (lambda: GroupPool("sum"), 'reduction must be one of "max", "mean", got \'sum\''),
    "unknown pooling": (lambda: SpatialPool(P4, "median"), 'reduction must be one of "max", "mean", got \'median\''),
    **{
        f"pooling with {settings}": (lambda settings=settings: SpatialPool(P4, **settings), message)
        for settings, message in [
            ({"window": 28, "padding": 30}, "padding must be smaller than the window, got 30 for a window of 28"),
            ({"padding": "SAME"}, "padding must be an integer of at least 0, got 'SAME'"),
            ({"window": 0}, "window must be an integer of at least 1, got 0"),
            ({"stride": 0}, "stride must be an integer of at least 1, got 0"),
        ]
    },
    "an input of other channels": (
        lambda: GroupConv(3, 3, 3, P4, rngs=nnx.Rngs(0))(random(1, 7, 7, 4, 2).astype("float32")),
        "f has 4 group elements and 2 channels",
    ),
    "an image to a layer on feature maps": (
        lambda: GroupConv(3, 3, 3, P4, rngs=nnx.Rngs(0))(random(1, 7, 7, 1, 3).astype("float32")),
        "f has 1 group elements and 3 channels",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_work_is_refused_by_saying_what_would(case):
    make, message = ERRORS[case]
    with assert_refused(message):
        make()


MODULES = [getattr(attgconv_jax.nn, name) for name in attgconv_jax.nn.__all__]
MODULES = {module.__name__: module for module in MODULES if inspect.isclass(module)}
MODULES |= {entry.network.__name__: entry.network for entry in NETWORKS.values()}
WITHOUT_ARRAYS = {"Dropout", "GroupPool", "SpatialPool"}


@pytest.mark.parametrize("name", MODULES)
def test_types_that_are_not_floating_are_refused_before_anything_is_made(name):
    takes = inspect.signature(MODULES[name]).parameters.keys() & {"dtype", "param_dtype"}
    assert takes == (set() if name in WITHOUT_ARRAYS else {"dtype", "param_dtype"})
    known = "one of float16, bfloat16, float32, float64, got"
    values = [(16, "16"), ("bf16", "'bf16'"), (jnp.int8, "int8"), (jnp.dtype("int32"), "dtype('int32')")]
    for argument, none in {"dtype": "None or ", "param_dtype": ""}.items():
        for value, got in values if takes else ():
            with assert_refused(f"{argument} must be {none}{known} {got}"):
                MODULES[name](**{argument: value})
    if takes:
        with assert_refused(f"param_dtype must be {known} None"):
            MODULES[name](param_dtype=None)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")], ids=["name", "type", "dtype"])
def test_a_type_may_be_given_in_any_form(dtype):
    conv = GroupConv(2, 3, 1, P4, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))
    assert conv.w.dtype == conv(random(1, 2, 2, 4, 2)).dtype == jnp.bfloat16
