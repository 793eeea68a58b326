"""The loop and what it needs: state, optimizer, checkpoints, log. It never learns what it
trains.
"""
