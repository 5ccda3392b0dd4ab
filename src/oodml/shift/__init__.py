"""How far test classes lie from train classes, and splits of a wanted distance."""
