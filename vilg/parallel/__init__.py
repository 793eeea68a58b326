"""Layouts: where every array of a program lives, by logical axes and mesh axes."""
