"""A text of the visitor's own on the page Explore: what the dense and the pruned model make of it.

answers  what classifiers answer
reading  what language models make of each token, and how they go on
ask      whichever the model in hand can be asked
"""
