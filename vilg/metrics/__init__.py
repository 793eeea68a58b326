"""Scores as pure functions of features, strings and votes; no model is run here."""
