#!/usr/bin/env bash
# TensorFlow Datasets 4.9.10: every builder of a set that is not prepared leaves an empty folder in the temporary one.
#
# A builder looks for the set's description in a bucket of Google's, which is switched off, so that nothing is fetched. The
# folder for what would be fetched is made before the switch is looked at, and nobody removes it, neither the builder
# when it is gone nor the process when it ends. A test suite that opens sets which are not there fills the temporary folder
# by dozens a run. `tempfile.tempdir` can be pointed at a folder of one's own meanwhile. For a set that is prepared no
# folder is made.
#
# Seen: folders left by three builders of mnist 3, files in them 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "tensorflow-datasets==4.9.10"
mkdir "$folder/temporary" "$folder/sets"
cat > "$folder/run.py" <<'PYTHON'
import sys

import tensorflow_datasets as tfds

for _ in range(3):
    builder = tfds.builder("mnist", data_dir=sys.argv[1])
    assert not builder.data_path.exists()
PYTHON
TMPDIR="$folder/temporary" "$folder/env/bin/python" "$folder/run.py" "$folder/sets" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
left=$(find "$folder/temporary" -mindepth 1 -maxdepth 1 -type d -name '*tfds' | wc -l)
files=$(find "$folder/temporary" -type f -path '*tfds*' | wc -l)
output="folders left by three builders of mnist $left, files in them $files"
echo "$output"
[ "$output" = "folders left by three builders of mnist 3, files in them 0" ]
