"""The training loop, with its state, optimizer, checkpoints and log. The loop is the same for every
model: it calls functions that it is given, and imports no model.
"""
