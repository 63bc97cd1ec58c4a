"""Looks: the change of a picture as a table or curves, and a look applied to pictures."""
