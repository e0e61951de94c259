#!/usr/bin/env bash
# TensorFlow Datasets 4.9.10: a data source under `tfds.testing.mock_data` departs from a real one in four ways.
#
# `builder.as_data_source()` without a split, which really gives all of them, is a TypeError. Records read many at once, by
# `source.__getitems__`, as a loader does that reads blocks once, are a TypeError as well: the mock is bound without its
# first argument. A slice of a split is as long as the split. And `test` holds the images of `train`, so that a check for
# images in both finds all. Reading one record works. What reads in batches, or splits, is tested on real files instead.
#
# Seen: as_data_source() TypeError, __getitems__ TypeError, length of train 5 and of train[:40%] 5, test equals train True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "tensorflow-datasets==4.9.10" "array-record==0.8.6"
cat > "$folder/run.py" <<'PYTHON'
import sys

import tensorflow_datasets as tfds


def outcome(call):
    try:
        return type(call()).__name__
    except TypeError:
        return "TypeError"


with tfds.testing.mock_data(num_examples=5):
    builder = tfds.builder("cifar10", data_dir=sys.argv[1], file_format="array_record")
    train, test, part = (builder.as_data_source(split) for split in ("train", "test", "train[:40%]"))
    same = all((train[i]["image"] == test[i]["image"]).all() for i in range(5))
    print(
        f"as_data_source() {outcome(builder.as_data_source)}, __getitems__ {outcome(lambda: train.__getitems__([0, 1]))}, "
        f"length of train {len(train)} and of train[:40%] {len(part)}, test equals train {same}"
    )
PYTHON
output=$(TMPDIR="$folder" "$folder/env/bin/python" "$folder/run.py" "$folder/sets" 2> "$folder/log") || { cat "$folder/log"; exit 1; }
echo "$output"
expected="as_data_source() TypeError, __getitems__ TypeError, length of train 5 and of train[:40%] 5, test equals train True"
[ "$output" = "$expected" ]
