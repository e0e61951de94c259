"""`python -m attgconv_jax.interop FILE NETWORK OUT`: published weights become a checkpoint."""

import argparse
import sys
from collections.abc import Sequence

import jax
from flax import nnx

from attgconv_jax.interop.files import read_state
from attgconv_jax.interop.reference import REFERENCE_NETWORKS, load_reference
from attgconv_jax.models import save_network


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a checkpoint of a state dict; the exit status is 0, or 2 after one line on standard error."""
    parser = _Parser(
        prog="python -m attgconv_jax.interop",
        description="Turns weights of the reference PyTorch implementation into a checkpoint, which "
        "attgconv_jax.models.load_network reads. Nothing in the file is executed. float64 arrays are kept: this "
        "command enables x64 itself, the program that loads them has to do the same.",
    )
    parser.add_argument("file", metavar="FILE", help="state dict: an .npz of arrays, or a .pth or .pt of torch.save")
    parser.add_argument("network", metavar="NETWORK", help=f"one of {', '.join(REFERENCE_NETWORKS)}")
    parser.add_argument("out", metavar="OUT", help="directory to write; must not exist")
    options = parser.parse_args(arguments)
    try:
        with jax.enable_x64(True):
            network = load_reference(read_state(options.file), options.network)
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
