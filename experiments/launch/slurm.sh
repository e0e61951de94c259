#!/usr/bin/env bash
# Trains under SLURM, a process for each GPU: sbatch experiments/launch/slurm.sh ARGUMENTS
#
#   sbatch experiments/launch/slurm.sh rot-mnist-p4 --workdir /shared/runs/p4
#
# ARGUMENTS are those of `python -m experiments.train`. JAX finds its processes in SLURM's variables, and gives each the
# GPU of its number: as many tasks as GPUs on every node. Two minutes before its time is up the run is told to stop at a
# checkpoint, and the same command continues there.
#SBATCH --job-name=attgconv
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
exec srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" .venv/bin/python -m experiments.train "$@" --distributed
