"""Types of the native module; checked against the built module by stubtest (`make types`)."""
