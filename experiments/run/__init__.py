"""What a run is and does: configuration, work directory, checkpoints, loop, training step, metrics."""
