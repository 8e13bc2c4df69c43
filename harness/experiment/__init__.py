"""What to run: the experiment file, the design and the runs it expands to. No torch."""
