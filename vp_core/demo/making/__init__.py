"""How the demo came to be, for whoever wants to build it again: `python -m vp_core.demo.making.build`.

words       the lexicon
grammar     reviews, written from it
vocabulary  BERT's vocabulary cut down to what the reviews need
train       fine-tuning of the encoder
build       all of this, stored and measured
twin        the twin, trained under spectral normalisation
measured    the norms of both, stored beside their weights
"""
