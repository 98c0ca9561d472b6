"""Architecture search over the options of `fit`: candidates, what they cost, how they train, and what to make of it."""
