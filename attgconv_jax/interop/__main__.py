"""`python -m attgconv_jax.interop FILE NETWORK OUT`: published weights become a checkpoint, or a checkpoint those."""

import argparse
import sys
from collections.abc import Sequence

import jax
from flax import nnx

from attgconv_jax.interop.files import read_state, write_state
from attgconv_jax.interop.published import SOURCES, load_published, published_state
from attgconv_jax.models import load_network, save_network


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a checkpoint of a state dict, or the reverse; the exit status is 0, or 2 after one line of error."""
    parser = _Parser(
        prog="python -m attgconv_jax.interop",
        description="Turns published weights into a checkpoint, which attgconv_jax.models.load_network and "
        "experiments.train --init-from read. Nothing in the file is executed. float64 arrays are kept: this "
        "command enables x64 itself, the program that loads them has to do the same.",
        epilog="; ".join(f"networks of {name}: {', '.join(source.networks)}" for name, source in SOURCES.items()),
    )
    parser.add_argument("file", metavar="FILE", help="state dict: .npz, .safetensors, or .pth, .pt, .ckpt, .tar")
    parser.add_argument("network", metavar="NETWORK", help="name of the network in the code that its weights are of")
    parser.add_argument("out", metavar="OUT", help="directory to write; must not exist")
    parser.add_argument("--source", choices=SOURCES, default="att_gconvs", help="that code; default: %(default)s")
    parser.add_argument("--classes", type=int, help="number of logits, where it is not that of the published network")
    parser.add_argument(
        "--back", action="store_true", help="FILE is a checkpoint, and OUT a file to write with the weights of NETWORK"
    )
    options = parser.parse_args(arguments)
    settings = {} if options.classes is None else {"classes": options.classes}
    try:
        with jax.enable_x64(True):
            if options.back:
                network = load_network(options.file)
                state = published_state(network, options.source)
                # Checked against the name that was asked for.
                classes = settings or {"classes": network.settings["classes"]}
                load_published(state, options.source, options.network, **classes)
                write_state(options.out, state)
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


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """Exits with the message in one line, as for every other wrong input."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


if __name__ == "__main__":
    sys.exit(main())
