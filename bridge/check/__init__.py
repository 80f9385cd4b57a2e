"""`ari-bridge check`: would a call work? Tries what a call needs, and names what to mend.

Theory of operation. Each check does what a call does, with the code that a call does it with where
there is such code, and turns the outcome into a `Finding`: a line, with the cure if it isn't well.
A check whose ground is missing (no RTP without Asterisk) isn't made, and says so. Nothing is left
behind: what a check makes in Asterisk it takes away, and Asterisk itself does so a minute later
should the check be killed; in Redis it writes one key that expires.

    system    this machine: room for sockets, files and slots, the clock, the speed
    redis     version, rights, persistence, eviction, latency
    asterisk  version, rights, modules
    rtp       a test call: both ways, from the address and to the address that calls use
    codecs    what Asterisk can make of a call's audio
    dialplan  whether it has what the bridge and its agents need
    recording each agent's that records: its folder, key, format; and who writes it down
    engines   each agent's: extras, keys, an answer; and about how many calls this machine carries
"""
