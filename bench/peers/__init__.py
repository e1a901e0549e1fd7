"""What a user would pick instead, run as outside programs of their own, installed when they are measured."""
