//! Monotonic time, the same clock in every process of the machine.

/// Nanoseconds of `CLOCK_MONOTONIC`: comparable between processes, never set back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same clock as it was at the kernel's last tick, some milliseconds ago at most: cheaper to read.
#[must_use]
pub fn coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: INV-SYS-1: `now` is a live, writable timespec for the whole call; the clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// The timespec of a span, saturating at what the system can express.
pub(super) fn timespec_of(span: std::time::Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(span.subsec_nanos().cast_signed()),
    }
}
