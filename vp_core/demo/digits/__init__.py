"""How the small image classifier came to be, for whoever wants to build it again: `python -m vp_core.demo.digits.build`.

scans  scans of handwritten digits, dealt into those it learns and those it is judged on
train  training of the model, the scans turned, moved and resized a little each time
build  all of this, stored and measured
"""
