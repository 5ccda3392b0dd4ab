"""Miners choose triplets from a batch; every file defines `class Miner`."""
