"""The rules of docs/reference/safety.md as a small model of one storage group, explored state by state. README.md says more."""
