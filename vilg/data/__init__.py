"""Captioned pictures: sources with one record schema, text model, loader, and prompt files."""
