"""What a model can be asked, a file a kind: how examples become batches, what of an answer counts, what it is worth.

question        what all kinds have: batches in their order, outputs, answers, a score with its interval
classification  classes, values and several labels of texts
windows         a long text as windows of tokens
texts           where a long text comes from
masking         words of a text masked, the same for every model
tokens          tokens that are predicted: their losses, from the states before the head
next_tokens     a language model's next tokens: perplexity
masked_tokens   an encoder's masked tokens: their loss
answered        what of an answer is differentiated, and how far two answers are apart
"""
