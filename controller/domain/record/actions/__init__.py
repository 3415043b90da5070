"""What is done on hosts and to them, beside changing their kernel: work at hand, and power that is cut."""
