#!/usr/bin/env bash
# escnn 1.0.11, PyTorch 2.13.0: a state dict loads into a network in evaluation mode without error, and its layers are zero.
#
# In evaluation mode an `R2Conv` convolves with a buffer `filter`, not with its `weights`. A network that was just made is in
# training mode, where it convolves with its weights, but its state has the buffer, of zeros, until `train()` is called
# once. `load_state_dict` into a network in evaluation mode finds every name and shape, and copies the zeros.
# A later `eval()` does not help: it computes the filter only where the network was in training mode before.
#
# Seen: source is zero False, loaded is zero True, after eval() True, after train() and eval() False, same output True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
pip() { "$folder/env/bin/pip" install --quiet "$@"; }
pip "torch==2.13.0" "numpy==1.26.4" "scipy==1.17.1" "joblib==1.6.0" "lie_learn==0.0.2" "pymanopt==2.2.1"
# Its dependency py3nj needs a Fortran compiler, and serves groups in three dimensions alone.
pip --no-deps "escnn==1.0.11"
cat > "$folder/run.py" <<'PYTHON'
import torch
from escnn import gspaces, nn

space = gspaces.rot2dOnR2(4)
image, hidden = nn.FieldType(space, [space.trivial_repr]), nn.FieldType(space, [space.regular_repr])


def make():
    return nn.R2Conv(image, hidden, 3, bias=False)


x = image(torch.randn(1, 1, 5, 5))
source, loaded = make(), make().eval()
expected = source(x).tensor
loaded.load_state_dict(source.state_dict())


def is_zero(network):
    return bool((network(x).tensor == 0).all())


outcomes = [f"source is zero {is_zero(source)}", f"loaded is zero {is_zero(loaded)}"]
outcomes.append(f"after eval() {is_zero(loaded.eval())}")
outcomes.append(f"after train() and eval() {is_zero(loaded.train().eval())}")
outcomes.append(f"same output {torch.allclose(loaded(x).tensor, expected, atol=1e-6)}")
print(", ".join(outcomes))
PYTHON
output=$("$folder/env/bin/python" "$folder/run.py" 2> /dev/null)
echo "$output"
[ "$output" = "source is zero False, loaded is zero True, after eval() True, after train() and eval() False, same output True" ]
