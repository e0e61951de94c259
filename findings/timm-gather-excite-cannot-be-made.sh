#!/usr/bin/env bash
# timm 1.0.31, PyTorch 2.13.0: the attention layer "ge" (Gather-Excite) is listed, and cannot be made as timm makes it.
#
# `create_attn("ge", channels)`, and so `ResNet(..., block_args=dict(attn_layer="ge"))`, raises a TypeError: its MLP gets
# the activation twice, by position and by name. So does Gather-Excite with learnt extents ("extra_params"), whose
# convolutions get the kernel size twice. Of its variants only the one without parameters, `use_mlp=False`, can be made.
# There are therefore no published weights of timm's Gather-Excite to read, though its documentation names the layer.
#
# Seen: se SEModule, gc GlobalContext, ge TypeError, ge learnt TypeError, ge without parameters GatherExcite
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "torch===2.13.0" "torchvision==0.28.0" "timm==1.0.31"
cat > "$folder/run.py" <<'PYTHON'
import timm
import torch
from timm.layers import create_attn


def made(name, **options):
    try:
        return type(create_attn(name, 64, **options)).__name__
    except TypeError as error:
        assert "got multiple values for argument" in str(error), error
        return "TypeError"


cases = {
    "se": made("se"),
    "gc": made("gc"),
    "ge": made("ge"),
    "ge learnt": made("ge", extra_params=True, extent=2),
    "ge without parameters": made("ge", use_mlp=False),
}
print("timm", timm.__version__, "torch", torch.__version__)
print(", ".join(f"{name} {found}" for name, found in cases.items()))
assert list(cases.values()) == ["SEModule", "GlobalContext", "TypeError", "TypeError", "GatherExcite"]
PYTHON
"$folder/env/bin/python" "$folder/run.py"
