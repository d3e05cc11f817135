"""What takes the place of what was removed, still without training: a ladder, each rung better informed.

prune       a new model without these rows, over the storage of the old one
solve       least squares: what stays takes over what went
ladder      the rungs: zero, mean, least squares
principal   other coordinates for the heads, in which few matter
by_mask     single weights: every row solved again for its own mask
regression  weighted ridge regression from moments
refit       the last rung: every matrix again, in forward order
"""
