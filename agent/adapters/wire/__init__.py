"""Messages between agent and controller, and orders in them."""
