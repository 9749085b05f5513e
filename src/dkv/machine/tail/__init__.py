"""The dead leader's tail: its machine sends the bytes that its followers lack from its disk, so that one of them leads without
waiting for its engine to load (docs/decisions/0011).

Leadership meets `plan.recipient_steps` and `plan.report_digest`; the rules are in domain/rules/tail.py.
"""
