"""Before anything reboots: how many blocks and hosts it takes, and what fewer can show. Judges nothing."""
