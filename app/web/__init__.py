"""The Streamlit app: `main` leads to a file of `views` a page, which calls the `panels`. It computes nothing itself.

offered          what is offered of a recipe's parts, and what goes with units
settings_fields  the kinds of settings: which values, how one stands in the address
training_choices choices of the page Training
asked_choices    choices of the model and of what it is asked
settings         what a visitor can choose, each choice declared once
models           which models are offered
address          all choices in the address of the page, and back
glossary         a sentence for every other term
stages           what a computation says it is at, stage by stage
jobs             computations that go on while the page lives
components       the parts in the browser: slider, figures that follow it
visitor          all that is kept of one visitor
choices          the widgets of the settings
sidebar          those on the left
waiting          the jobs that a visitor follows
measuring        speed, one measurement at a time
weighing         the tables of the page Weights
order            what goes first, for the panels beside the score
trainings        runs that prune while they train: the one under way, and those on disk
beside           function norms of the model in hand, and of what is drawn beside it
caching          what visitors share: the only place
visitor_jobs     what is computed for one visitor alone
opening          how every page begins
downloads        what a visitor takes away
main             the entry point
"""
