"""What everything stands on, and knows nothing of models: words, files, cores, cancelling.

errors    the one exception that a user is meant to read
names     every vocabulary: types, units, criteria, scopes, replacements, budgets
patterns  what goes as one of a weight matrix: weights, blocks, N of M, columns
chosen    what was chosen among the names: checked, and what goes with it
bounded   files that say how large they are, read no further than that can be true
hub       the only place that goes to the network, and only when asked
store     files that are whole or not there, and fingerprints
work      who is served first, how work is cancelled, what it says it is at
kept      caches: results by key, each computed once; and what was measured, on disk
parallel  batches on all cores, in order
"""
