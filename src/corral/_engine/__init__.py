"""The parent program: decides where tasks go, carries it out, and settles each exactly once."""
