"""Names of residual networks, as torchvision and most code after it has them."""

from collections.abc import Callable, Mapping

from attgconv_jax.interop.slots import Slot, filters, linear, norm
from attgconv_jax.models import ResNet
from attgconv_jax.models.residual import ResidualBlock


def resnet_slots(
    network: ResNet,
    of_attention: Callable[[str, ResidualBlock], Mapping[str, Slot]] = lambda name, block: {},
    of_branch: Callable[[str, ResidualBlock], Mapping[str, Slot]] | None = None,
) -> dict[str, Slot]:
    """Where the arrays of a published ResNet are in ours, by their names.

    Args:
      network: ours, on the trivial group.
      of_attention: the slots of a block's attention, from the block's name and the block.
      of_branch: the slots of a block's branch; None: those of `branch_slots`.
    """
    slots = {"conv1.weight": filters(network.lifting.conv.w), **norm("bn1", network.lifting.norm)}
    for stage, blocks in enumerate(network.stages, 1):
        for number, block in enumerate(blocks):
            name = f"layer{stage}.{number}"
            slots |= (of_branch or branch_slots)(name, block)
            if block.shortcut is not None:
                slots[f"{name}.downsample.0.weight"] = filters(block.shortcut.conv.w)
                slots |= norm(f"{name}.downsample.1", block.shortcut.norm)
            slots |= of_attention(name, block)
    return slots | linear("fc", network.classifier)


def branch_slots(name: str, block: ResidualBlock) -> dict[str, Slot]:
    """The slots of a branch of plain convolutions, each with a norm."""
    slots = {}
    for number, layer in enumerate(block.branch, 1):
        slots[f"{name}.conv{number}.weight"] = filters(layer.conv.w)
        slots |= norm(f"{name}.bn{number}", layer.norm)
    return slots
