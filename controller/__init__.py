"""The controller.

The layers, top to bottom: cli, main, lab, adapters, services, views, domain, gate. Imports go down, never up.
"""
