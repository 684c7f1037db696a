"""Small models of the architectures that stacks serve, for where no model hub answers."""
