"""Tables and files: what training, data preparation and moderation read and write alike."""
