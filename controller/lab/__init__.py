"""The local fleet of real VMs: packages and images, guests, the demo.

Nothing outside the lab and the command line may import this.
"""
