"""Pure view models and their renderings; the terminal, the JSON output and the reports all show these.

No I/O may live here.
"""
