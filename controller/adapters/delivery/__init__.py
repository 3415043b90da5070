"""The delivery port, one package a way of giving hosts a kernel."""
