"""The models that come along: a small sentiment classifier with the sentences it was tuned and judged on, a small
language model with its stories (`text/`), and a small image classifier with scans of digits (`images/`).

quantise  eight-bit weights, as they are stored
load      the classifier, its spectrally normalised twin, the language model and the image classifier, without network
norms     their function norms, measured beforehand

`making` built the text classifiers, `writing` the language model, `digits` the image classifier; nothing else imports
those folders.
"""
