"""Live sessions: sound as it comes, events out."""
