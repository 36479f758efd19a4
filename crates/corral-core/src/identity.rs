//! Who a process is across pid reuse (pid and start time), and whether it still lives.
