"""One training room for both frameworks: the step, history, watch, blame, checkpoints, run folders, results."""
