"""`python -m attgconv_jax.interop FILE NETWORK OUT`: published weights become a checkpoint, or a checkpoint those."""

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from attgconv_jax.interop.files import read_state, write_state
from attgconv_jax.interop.published import SOURCES, load_published, published_state
from attgconv_jax.lie import rotations, scalings, similarities
from attgconv_jax.models import load_network, save_network

_GROUPS = {"rotations": rotations, "scalings": scalings, "similarities": similarities}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a checkpoint of a state dict, or the reverse; the exit status is 0, or 2 after one line of error."""
    parser = _Parser(
        prog="python -m attgconv_jax.interop",
        description="Turns published weights into a checkpoint, which attgconv_jax.models.load_network and "
        "experiments.train --init-from read. Nothing in the file is executed. float64 arrays are kept: this "
        "command enables x64 itself, the program that loads them has to do the same.",
        epilog="; ".join(f"networks of {name}: {', '.join(source.networks)}" for name, source in SOURCES.items()),
    )
    parser.add_argument("file", metavar="FILE", help="state dict: .npz, .safetensors, or .pth, .pt, .ckpt, .tar, .bin")
    parser.add_argument("network", metavar="NETWORK", help="name of the network in the code that its weights are of")
    parser.add_argument("out", metavar="OUT", help="directory to write, or with --back file; must not exist")
    parser.add_argument("--source", choices=SOURCES, default="att_gconvs", help="that code; default: %(default)s")
    parser.add_argument("--classes", type=int, help="number of logits, where it is not that of the published network")
    parser.add_argument(
        "--settings",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="what else is not as published, such as 'group=rotations(4)' kind=gseparable kernel_size=5",
    )
    parser.add_argument(
        "--back", action="store_true", help="FILE is a checkpoint, and OUT a file to write with the weights of NETWORK"
    )
    options = parser.parse_args(arguments)
    try:
        settings = _settings(options.settings)
        settings |= {} if options.classes is None else {"classes": options.classes}
        if options.back and settings:
            raise ValueError(f"settings must be left out with --back, as the checkpoint has them, got {settings}")
        with jax.enable_x64(True):
            if options.back:
                if os.path.lexists(options.out):
                    raise ValueError(f"{options.out} exists: choose another path, or remove it first")
                network = load_network(options.file)
                write_state(options.out, published_state(network, options.source, options.network))
            else:
                network = load_published(read_state(options.file), options.source, options.network, **settings)
                save_network(options.out, network)
    except (ImportError, OSError, ValueError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    parameters = jax.tree.leaves(nnx.state(network, nnx.Param))
    count = sum(leaf.size for leaf in parameters)
    print(f"{options.out}: {options.network}, {count:,} parameters, {parameters[0].dtype}")
    return 0


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """The settings by name from NAME=VALUE: Lie groups as they are made in Python, literals, else the words."""
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in settings:
            raise ValueError(f"settings must be NAME=VALUE, each name once, got {text!r}")
        settings[name] = _group(value) if name == "group" else _value(value)
    return settings


def _group(text):
    name, _, rest = text.removesuffix(")").partition("(")
    try:
        return _GROUPS[name](*map(_value, rest.split(",")))
    except (KeyError, TypeError) as error:
        wanted = "like rotations(8), scalings(3, 1.74) or similarities(8, 3, 1.74)"
        raise ValueError(f"group must be {wanted}, got {text!r}") from error


def _value(text):
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return text


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """Exits with the message in one line, as for every other wrong input."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


if __name__ == "__main__":
    sys.exit(main())
