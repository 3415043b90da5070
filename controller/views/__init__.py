"""What operators see: view models, how they follow from rollouts and hosts, and the before/after report.

Pure: values in, values out. No I/O, clock, colour or protobuf may live here; the terminal's rendering is in
controller.cli, the API's in controller.adapters.rpc.
"""
