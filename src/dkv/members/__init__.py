"""The etcd member that a manager may run for the domain state: its program, its process, its place among the others.

The domain decides which servers have a member (domain/state_members.py); this package starts, adopts and ends the member of one
server, and asks the cluster for changes. docs/decisions/0078-managers-run-the-members-of-their-own-state.md.
"""
