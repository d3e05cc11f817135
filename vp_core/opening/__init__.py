"""A study by name, or of parts that are already loaded: what is read is checked to belong together, kind of task by kind.

asked    what is asked for, option by option
classes  texts with classes, values or labels
tokens   a long text that is asked for its tokens
tags     sentences whose words have tags
study    whichever of them it is
"""
