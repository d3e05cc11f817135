"""What reads for a model: the tokeniser or image processor that comes with it, and whether it is the model's own.

tokeniser  the tokeniser is that of the model
texts      ... and reads the texts it is given
images     the image processor of a model that sees
"""
