"""Delivery to hosts that start from their own disk: kernroll-boot on the host does it, playbooks bring it there."""
