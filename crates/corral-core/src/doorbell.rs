//! Waking a sleeper only when somebody sleeps: an eventcount over a futex or an eventfd.
