"""Metrics: functions of features, probabilities and strings, in numpy. Nothing here runs a model or reads a picture's file."""
