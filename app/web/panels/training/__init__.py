"""The page Training: what to train, the run that is shown, and the runs there are.

start    how to train and how to prune meanwhile, and the button
watch    one run: how far it is, its lines and its film
runs     all runs, which are compared, and what to do with one
"""
