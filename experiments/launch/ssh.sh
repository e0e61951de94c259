#!/usr/bin/env bash
# Trains on hosts that SSH reaches, a process each: bash experiments/launch/ssh.sh HOST,HOST,... ARGUMENTS
#
#   bash experiments/launch/ssh.sh gpu1,gpu2 rot-mnist-p4 --workdir /shared/runs/p4
#
# ARGUMENTS are those of `python -m experiments.train`. Every host has this project under the same path, with its
# environment, and all see the same --workdir. The first host must be reached by the others at the name that is given
# here. Ctrl-C ends all; the same command continues at the newest checkpoint.
#
# PORT (12355) is where the first host listens, PYTHON (.venv/bin/python) what runs there, SSH (ssh -o BatchMode=yes)
# how hosts are reached.
set -euo pipefail
if [ $# -lt 1 ] || [[ $1 == -* ]]; then
  echo "usage: bash experiments/launch/ssh.sh HOST,HOST,... ARGUMENTS (see the top of this file)" >&2
  exit 2
fi
IFS=, read -r -a hosts <<<"$1"
shift
folder=$(cd "$(dirname "$0")/../.." && pwd)
arguments=
[ $# -eq 0 ] || arguments=$(printf ' %q' "$@")
arguments+=" --coordinator ${hosts[0]#*@}:${PORT:-12355} --processes ${#hosts[@]}"

processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true' EXIT
for process in "${!hosts[@]}"; do
  # A terminal of its own, so that what runs there ends with its connection.
  # shellcheck disable=SC2086 # SSH and PYTHON may be several words
  ${SSH:-ssh -o BatchMode=yes} -tt "${hosts[$process]}" \
    "cd $(printf %q "$folder") && exec ${PYTHON:-.venv/bin/python} -m experiments.train$arguments --process $process" \
    </dev/null &
  processes+=($!)
done

code=0
for process in "${processes[@]}"; do
  wait "$process" || code=$?
done
exit $code
