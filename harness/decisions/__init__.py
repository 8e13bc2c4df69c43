"""Decision rules: from the outputs of a model to decisions, as pure functions."""
