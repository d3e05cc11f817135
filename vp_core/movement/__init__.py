"""Masks learned with the weights: movement and block pruning."""
