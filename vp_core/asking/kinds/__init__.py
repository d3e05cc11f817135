"""What a model can be asked, a file a kind: how examples become batches, what of an answer counts, what it is worth.

question        what all kinds have: batches in their order, outputs, answers, a score with its interval
classification  classes, values and several labels of texts
images          classes of images
heads           what a model puts out, and the states that its last map reads
answers         what an answer in words is worth: exact match and F1
spans           where a paragraph answers a question
tags            a tag for every word
own             whatever a function measures
answered        what of an answer is differentiated, and how far two answers are apart
"""
