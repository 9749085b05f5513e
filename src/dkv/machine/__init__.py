"""One server's loop: compare what is wanted with what is here, take the next step, report what was seen."""
