"""Procedural bilingual scenes, whose pictures and captions can both be checked exactly."""
