"""Image classification one pixel a step: Cooijmans et al. 2017, section 5.1."""
