"""Reading comprehension: the Attentive Reader in the five variants of Cooijmans et al. 2017, section 5.4."""
