"""How long harmonising takes on this machine, and beside what."""
