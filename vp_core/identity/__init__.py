"""Whole blocks pruned towards the identity (SNIP), with spectral normalisation.

gate            shut where no coordinate of a block exceeds ε
spectral        weights of a given spectral norm
spectral_start  where to begin with it
l1              the L1 term of a training with gates
readings        what the paper leaves open, and how it is read
usage           how often each block was the identity
leaving         which blocks leave in an iteration
settings        how to prune, as a run keeps it
snip            the iterations, as a run that can be stopped
threshold       what ε and θ take out, nothing trained
"""
