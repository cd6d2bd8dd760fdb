"""Language models: Laurent et al. 2015, section 5.2, and Cooijmans et al. 2017, sections 5.2 and 5.3."""
