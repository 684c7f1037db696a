"""The sandbox's AWS: moto's server, made as strict as AWS, with what the program needs beyond it."""
