"""Mirrors of the results for people to look at."""
