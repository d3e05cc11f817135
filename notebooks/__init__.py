"""The taught path, one notebook per source and a first one, and the widgets they use."""
