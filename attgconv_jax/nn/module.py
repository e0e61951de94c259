"""What the library's modules are derived from."""

import inspect

from flax import nnx

from attgconv_jax.checks import check_dtype_names


class ClassSignature:
    """The signature of a class: the given one, or that of its constructor. Instances have that of `__call__`."""

    def __init__(self, signature: inspect.Signature | None = None):
        self.signature = signature

    def __get__(self, instance, owner):
        if instance is not None:
            raise AttributeError("__signature__")
        if self.signature is not None:
            return self.signature
        return inspect.Signature(list(inspect.signature(owner.__init__).parameters.values())[1:])


class Module(nnx.Module):
    """A module of Flax whose signature is that of its constructor; Flax's metaclass reports `(*args, **kwargs)`.

    What all constructors are given is checked here, before them: the types to compute in.
    """

    __signature__ = ClassSignature()

    def __new__(cls, *args, **arguments):
        """Raises a `ValueError` unless `dtype` and `param_dtype`, where they are given, are floating types."""
        check_dtype_names(**{name: arguments[name] for name in ("dtype", "param_dtype") if name in arguments})
        return super().__new__(cls)
