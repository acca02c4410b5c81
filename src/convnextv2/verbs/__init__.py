"""What is done with models, whatever their task: one file or folder a verb of the command."""
