"""Few-shot adapters: how a head adapts to the support images of an episode, one file each."""
