"""Building blocks of the networks, borrowed from other papers."""
