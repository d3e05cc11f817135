"""Questions whose answers are words: a long text that is asked for its tokens, or a text that another is to be written about.

windows        a long text as windows of tokens
texts          where a long text comes from
masking        words of a text masked, the same for every model
tokens         tokens that are predicted: their losses, from the states before the head
next_tokens    a language model's next tokens: perplexity
masked_tokens  an encoder's masked tokens: their loss
pairs          sources and targets as tokens
target_tokens  the tokens of targets: perplexity
writing        what a model writes about a source
rouge          what two texts have in common
sequences      ROUGE of what a model writes, perplexity beside it
"""
