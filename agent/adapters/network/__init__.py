"""How the agent reaches its controller: channels, the session, enrollment, a serial line."""
