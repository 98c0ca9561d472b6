"""Files of weights that metrics need: where they lie, whether they are whole, where to get them, under which licence."""
