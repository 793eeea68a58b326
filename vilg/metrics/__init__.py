"""Numbers about strings, features and votes that somebody else made: pure functions, no model is run here."""
