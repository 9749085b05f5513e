"""What a domain is and what may become true of it: values and pure functions, standard library only."""
