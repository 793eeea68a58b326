"""Costs of programs on chips that this machine need not have: programs are compiled, read, counted
and turned into seconds.
"""
