"""Captioned pictures: sources with one record schema, the text model, the loader, and prompt files."""
