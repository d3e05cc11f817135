"""The model that comes along: a small sentiment classifier and the sentences it was tuned and judged on.

quantise  eight-bit weights, as they are stored
load      the model and its spectrally normalised twin, without network
norms     their function norms, measured beforehand

`making` built all of it; nothing else imports that folder.
"""
