"""What operators ask for: plans, rollouts, hosts, the fleet, reports, replays. Every change is an event with a name."""
