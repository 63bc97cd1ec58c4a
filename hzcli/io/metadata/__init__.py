"""Metadata: read as blocks, thinned by a policy, embedded or put beside."""
