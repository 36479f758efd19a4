"""The child program: takes tasks from its link, runs them, answers. Never imports `corral._engine`."""
