"""The outside world, one vendor a module, each behind a port of controller.services.

Vendor errors are translated here.
"""
