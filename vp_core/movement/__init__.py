"""Masks learned with the weights: movement and block pruning, in this order of reading.

shapes  what has one score
scores  masks in a model, and the gradient of their scores
lowest  units of the lowest scores, exact to one
choose  what goes at a step, and the penalty on scores
ramp    when how much of it is done
fill    what is empty in surviving heads is trained on
prune   the callback of a training
"""
