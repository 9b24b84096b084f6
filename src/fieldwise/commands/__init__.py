"""The commands of `fieldwise`: what each takes from the command line and prints. Nothing heavy at import."""
