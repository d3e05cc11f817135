"""Words with tags: which tokens are which words, which output of a model is which tag, and which entities tags name.

aligned   sentences as tokens, and the first token of each word
entities  the entities that a row of tags names, as seqeval finds them
names     which output of a model stands for which tag of the data
"""
