"""Makes data sets: the paper's pipeline from recordings of voice chat to labelled clips (section 2)."""
