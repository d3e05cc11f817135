"""Single weights: magnitude pruning, blocks, N:M and coresets, as masks of whole matrices, in this order of reading.

matrices  which matrices have weights that can go
masks     which weights survive, one bit each
coreset   columns drawn by their norm, weighed by the inverse probability
criteria  what makes a weight worth keeping
patterns  from weights to blocks and back, and N of every M
order     scores sorted once, masks for any sparsity
dead      rows, heads and columns that nothing is left of, as a plan
prune     a model with its weights masked
stage     a recipe carried out, on texts measured before
compressed  what is written of a matrix with many zeros: bits and values
"""
