"""Runs a model file on a CPU; knows NumPy, has never heard of torch."""
