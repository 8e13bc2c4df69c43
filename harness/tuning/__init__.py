"""The search for the strength of every strategy in a recipe; the only importer of Optuna."""
