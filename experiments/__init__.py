"""Training, evaluation and benchmarks with `attgconv_jax`; not part of its wheel."""
