"""One file of rules for each noun; decide.py picks the rule that answers a command."""
