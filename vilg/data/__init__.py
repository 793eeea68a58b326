"""Captioned pictures in: sources with one record schema, text model, loader, prompt files,
conversion.
"""
