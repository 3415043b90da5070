"""What agents and controller say to each other: enrollment, sessions, reports, kernel logs."""
