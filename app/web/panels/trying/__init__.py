"""Something of the visitor's own on the page Explore: what the dense and the pruned model make of it, by what they are asked.

answers  what classifiers of texts answer
reading  what language models make of each token, and how they go on
parts    the answers of both models as they come, whatever they are
marking  a paragraph and a question, with both answers marked
looking  an image, with the classes of both models
writing  a text, with what both models write about it
tagging  a sentence, with the tags of both models
ask      whichever the model in hand can be asked
"""
