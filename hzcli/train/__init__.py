"""Training: composites made on the fly, losses, recipes, one loop."""
