"""Models to hand on: a folder with weights, configuration and model card, and the pipeline that samples from it."""
