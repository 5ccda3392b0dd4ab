"""Data sets, one file each: `dataset(...) -> ImageSet`."""
