"""Procedural bilingual scenes: pictures whose captions can be checked exactly, in both
directions.
"""
