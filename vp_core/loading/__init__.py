"""Models that people bring: what is checked before a model and its tokeniser are taken for what they say they are.

sentences    what libraries raise, as one sentence
folder       what a name or a folder is, and what to give instead
config       what config.json asks for that cannot be had, or that would be dropped in silence
checkpoint   the weights are all there, and all used
asked        as what a model is loaded, by what it is asked
gguf_header  what a GGUF file says of itself
gguf         ... and its model as a folder
load         the loaded model
weights      the weights alone, under any head or none
"""
