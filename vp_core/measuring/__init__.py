"""What the neurons and blocks of a model do on texts, seen on a private copy.

moments         count, mean and variance of many numbers: update, merge
tally           one pass over batches: site by site, a statistic of what came by
statistics      mean and variance of every projection's outputs
covariance      second moments where units are read
gradients       what each coordinate does to the outputs
histogram       a distribution of any number of values in fixed memory
function_norms  how large what a block adds is, token by token
spectral_norms  by how much a matrix stretches at most
layerwise       one layer at a time, what lies before it remembered
measured        all of it, each thing once: what texts say of a model
"""
