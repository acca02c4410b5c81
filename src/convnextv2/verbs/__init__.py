"""What is done with models, whatever their task: one file or folder per verb of the command."""
