"""The PBX side: which calls there are, and what can be done to one."""
