"""Questions whose answers are words: a long text that is asked for its tokens.

windows        a long text as windows of tokens
paragraphs     questions with their paragraphs, long ones in windows
texts          where a long text comes from
masking        words of a text masked, the same for every model
tokens         tokens that are predicted: their losses, from the states before the head
next_tokens    a language model's next tokens: perplexity
masked_tokens  an encoder's masked tokens: their loss
"""
