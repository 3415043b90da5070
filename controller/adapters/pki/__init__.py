"""The controller's own certificate authority."""
