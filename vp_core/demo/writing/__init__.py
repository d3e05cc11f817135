"""How the small language model came to be, for whoever wants to build it again: `python -m vp_core.demo.writing.build`.

words     names, things and places, and how they are put into sentences
teller    one story as it is told: its cast, what it has used, what follows from what
holding   scenes of things and places
counting  scenes with numbers
saying    scenes of language and common sense
stories   whole stories, and texts of them
tokens    the tokenizer, and a text as windows of tokens
train     training of the model, its perplexity, the facts it knows
build     all of this, stored and measured
"""
