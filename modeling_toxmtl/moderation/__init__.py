"""From a score to a decision: verdicts over many clips, their records, and what a moderator does with them."""
