"""A run's directory: its files, and what makes, restores and continues a run."""
