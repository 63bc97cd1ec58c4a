"""Judging results: what is known of composites, baselines, pairs of results, the worst shown."""
