"""What every verb needs between its work and a person at a terminal: options, inputs, outputs,
progress.
"""
