"""Tests of studies, on tables and hidden states that say what they have to find."""
