"""Direct-boot VMs: one supervisor process per VM owns QEMU and outlives the controller; the controller is its client.

records · state · commands decide and are pure; journal · machine · qmp · console touch the world; supervisor is the
process, server its local API, delivery the controller's side of it, processes what the lab calls.
Everything the supervisor imports is the standard library and controller.domain, because one runs beside every VM.
"""
