"""A seeded world with faults: the whole core of the controller over hosts that exist only in memory, in virtual time.

What decides here is the controller's own code; what is made up is hosts, network, disks, operators and the clock. The
same seed gives the same run, bit for bit. Nothing outside the simulator and the command line may import this.
"""
