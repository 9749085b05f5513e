"""Control: the door through which every command becomes true, the domain clock, and the judge of liveness."""
