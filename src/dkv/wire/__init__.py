"""Wire: what commands, views and refusals look like as JSON. Both ends of the managers' API read this.

`schemas` has the types and imports nothing of the domain, so that clients can be typed by it; `views` makes them of a state.
"""
