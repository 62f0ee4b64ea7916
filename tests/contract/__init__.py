"""The contract: at least one test for each clause of the manual of 0.2.2, and for what is meant where it is silent."""
