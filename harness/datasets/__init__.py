"""Datasets: the contract in `base`, one small file for each built-in source."""
