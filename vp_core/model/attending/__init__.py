"""Attention that a squeezed model has and a dense one has not; each runs the forward pass of transformers.

beside   a class beside that of transformers, whose forward pass sees other attributes
turning  heads that turn by frequencies of their own
grouped  heads of several widths
dropout  dropout on attention weights that costs little
"""
