"""The port of checks: Prometheus, alerts and webhooks over HTTP whose tries end."""
