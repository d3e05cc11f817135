"""A study by name, or of parts that are already loaded: what is read is checked to belong together, kind of task by kind.

asked      what is asked for, option by option
classes    texts with classes, values or labels
images     images with classes
tokens     a long text that is asked for its tokens
spans      questions whose answers stand in a paragraph
sequences  pairs of texts, of which the second is to be written
tags       sentences whose words have tags
own        whatever a function measures
study      whichever of them it is
"""
