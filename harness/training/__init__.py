"""How one run trains."""
