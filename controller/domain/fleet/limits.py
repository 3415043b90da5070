"""How much operators may ask for at once: one table for the command line and for the services that answer it."""

from typing import Final

# Whoever holds a join token can enroll so many hosts with it; a larger fleet takes several.
MOST_TOKEN_USES: Final = 10_000
LONGEST_TOKEN_S: Final = 30 * 86_400.0
# Of the fleet's own log, in one listing.
MOST_DECISIONS: Final = 10_000
