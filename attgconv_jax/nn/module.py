"""What the library's modules are derived from."""

import inspect

from flax import nnx


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
    """A module of Flax whose signature is that of its constructor; Flax's metaclass reports `(*args, **kwargs)`."""

    __signature__ = ClassSignature()
