"""Models that people bring: what is checked before a model and its tokeniser are taken for what they say they are.

folder      what a name or a folder is
checkpoint  the weights are those of the model
tokeniser   the tokeniser is that of the model
load        the loaded model
"""
