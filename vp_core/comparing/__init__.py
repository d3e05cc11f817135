"""Two of a kind beside each other: a pruned model and the dense one, or a model before and after it was trained.

movement   how far weights move in the order of their magnitudes
features   how alike what layers put out still is
losses     the loss of a task, of the same passes as its score
masked_lm  the loss of predicting masked words
tags       what a model makes of a text word by word
tokens     what a language model makes of a text of one's own, token by token
spans      what is answered about a paragraph of one's own, and where it stands
sequences  what a model writes about a text of one's own
"""
