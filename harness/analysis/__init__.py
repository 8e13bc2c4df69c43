"""From committed runs to tables."""
