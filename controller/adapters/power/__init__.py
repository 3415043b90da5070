"""The port of power: management controllers by Redfish and IPMI, where the inventory names them.

No user, password or token of theirs is logged, recorded, or stands on a command line.
"""
