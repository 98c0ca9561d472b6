"""Human evaluation: people choose between videos of the same prompt (LinGen, Fig. 8), and what they say is weighed."""
