"""The controller's memory: the fold of the event log, what is to be looked at again, who waits for what."""
