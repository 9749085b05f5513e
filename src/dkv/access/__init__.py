"""Access control: certificates, tokens, passwords, and what a principal may do. Judgement is pure; the clock is an argument."""
