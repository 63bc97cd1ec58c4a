"""Joins models and files: plans memory, streams one picture, walks a batch."""
