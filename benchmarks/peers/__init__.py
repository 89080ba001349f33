"""Other systems that ours is measured against."""
