"""The models that come along: a small sentiment classifier with the sentences it was tuned and judged on, and a small
language model with its stories (`text/`).

quantise  eight-bit weights, as they are stored
load      the classifier, its spectrally normalised twin and the language model, without network
norms     their function norms, measured beforehand

`making` built the classifiers, `writing` the language model; nothing else imports those folders.
"""
