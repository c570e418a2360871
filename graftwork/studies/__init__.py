"""Studies: a question over several experiments and analyses, answered in a report. One module per study."""
