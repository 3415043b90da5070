"""What must be signed, and by whom, for a kernel to start and to take the modules that this host runs.

`secure` says what is enforced, `image` looks into a kernel's file, `keys` says whose signatures count, `modules` what
is loaded from elsewhere; `refusals` puts them together. Nothing here signs or enrolls anything.
"""
