"""What there is to know of a model family, and those that are told apart from the encoders and decoders of texts.

stack             the names of a family's parts, and where rows are in a module of several projections
encoder_decoders  what the parts are called in families of two halves
vision            ... in those that see, and how large their pictures are
"""
