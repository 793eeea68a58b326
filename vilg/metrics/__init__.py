"""Scores as pure functions of features, strings, outcomes and votes; no model is run here."""
