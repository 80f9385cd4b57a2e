"""One suite that every engine passes: what an engine owes to a call, whatever it talks to.

`test_contract.py` is the suite. An engine takes part by a stand-in far end (`far.py` says how), one
class an engine in the modules `far_*.py` of this folder, which are found by themselves.
"""
