"""Formats: what each container says and how its pixels are read."""
