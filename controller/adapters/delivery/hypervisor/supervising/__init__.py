"""The supervisor's process of one virtual machine: what it decides, records and answers."""
