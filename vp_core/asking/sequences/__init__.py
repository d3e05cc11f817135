"""Questions about pairs of texts: one is read, and the other is to be written about it.

pairs          sources and targets as tokens
target_tokens  the tokens of targets: perplexity
writing        what a model writes about a source
rouge          what two texts have in common
written        ROUGE of what a model writes, perplexity beside it
"""
