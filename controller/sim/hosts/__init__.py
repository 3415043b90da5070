"""Simulated hosts: machine, agent, link, what they measure and what goes wrong on them."""
