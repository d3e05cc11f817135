"""The Streamlit app: `main` leads to a file of `views` a page, which calls the `panels`. It computes nothing itself.

settings    what a visitor has chosen, in the address
glossary    a sentence for every term
choices     the widgets on the left
jobs        computations that go on while the page lives
components  the parts in the browser: slider, figures that follow it
measuring   speed, one measurement at a time
preparing   what the panels need beside the score
beside      what is drawn beside the model in hand
caching     what visitors share: the only place
waiting     the jobs that one visitor waits for
opening     how every page begins
downloads   what a visitor takes away
main        the entry point
"""
