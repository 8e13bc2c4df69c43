"""How many runs get done."""
