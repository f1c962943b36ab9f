"""What is measured: pure NumPy kernels and their labelled wrappers."""
