"""Single weights: magnitude pruning, blocks, N:M and coresets, as masks of whole matrices, in this order of reading.

matrices  which matrices have weights that can go
masks     which weights survive, one bit each
dead      rows, heads and columns that are wholly zero, as a plan
compressed  bits and values: what is written of a matrix with many zeros
order     scores sorted once, masks for any sparsity
"""
