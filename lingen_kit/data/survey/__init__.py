"""What a data set holds and what is wrong with it: the work of `data validate` and `data inspect`."""
