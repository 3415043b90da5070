"""What a host is, as its files tell it: facts, memory, counters, boots."""
