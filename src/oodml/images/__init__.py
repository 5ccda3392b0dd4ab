"""Image collections: reading, fingerprints, the pixel cache, transforms, and loading."""
