"""Hosts, and what operators have decided about them and the fleet."""
