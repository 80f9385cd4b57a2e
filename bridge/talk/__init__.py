"""One call's conversation, by the parts that have a state of their own.

attention   how closely its audio is looked at, both ways
words       what the caller said last, and what is known of it
answer      what the agent says, or owes the caller
presence    who is there to hear it: keys, hold, mute
bookmark    how far all that has got, for whoever takes the call up
conversation  all of it, wired together
"""
