"""The study folder: the only interface between the processes of a study."""
