"""Measurements of cost and equivariance: `python -m experiments.bench.NAME`, a file each."""
