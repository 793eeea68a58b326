"""Numbers from features, strings and outcomes: nothing here runs a model."""
