"""ShapeBench's judges: what a clip of moving shapes shows, and how well that is what its prompt says."""
