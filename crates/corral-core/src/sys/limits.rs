//! How much memory this process could still get: from the machine, and from its control groups.

use std::fs;
use std::path::{Path, PathBuf};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Bytes that could still be had before something is killed for memory, or None where the system doesn't tell.
///
/// An estimate: others take memory at the same time. Reads a few files of `/proc` and `/sys` (some 50 us). Of control groups only version 2 is
/// read.
#[must_use]
pub fn available_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_available(&text));
    let group = own_group().and_then(|path| group_available(&path));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// What `/proc/meminfo` says can be had without killing: unused, reclaimable, or to be swapped.
fn machine_available(meminfo: &str) -> Option<u64> {
    let kibibytes = |name| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let available = kibibytes("MemAvailable:")?;
    Some(available.saturating_add(kibibytes("SwapFree:").unwrap_or(0)).saturating_mul(1024))
}

/// The directory of this process's control group (version 2).
fn own_group() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(CGROUP_ROOT).join(path))
}

/// The least that the group and those above it leave.
fn group_available(group: &Path) -> Option<u64> {
    let groups = group.ancestors().take_while(|path| path.starts_with(CGROUP_ROOT));
    groups.filter_map(one_group_available).min()
}

fn one_group_available(group: &Path) -> Option<u64> {
    let read = |name| fs::read_to_string(group.join(name)).ok();
    // "max", no limit, is no number and ends here.
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let reclaimable = read("memory.stat").map_or(0, |text| file_cache(&text));
    Some(limit.saturating_sub(current.saturating_sub(reclaimable)))
}

/// Bytes of file cache in `memory.stat`: dropped when needed (shared memory isn't counted there).
fn file_cache(stat: &str) -> u64 {
    let value = |line: &str| line.split_once(' ').and_then(|(_, number)| number.trim().parse::<u64>().ok());
    let lines = stat.lines();
    let cache = lines.filter(|line| line.starts_with("inactive_file ") || line.starts_with("active_file "));
    cache.filter_map(value).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_how_much_memory_it_has_left() {
        assert!(available_memory().unwrap() > 0);
    }

    #[test]
    fn swap_counts_as_available_and_other_lines_do_not() {
        let text = "MemTotal: 99 kB\nMemAvailable:   2048 kB\nSwapTotal: 50 kB\nSwapFree:  1024 kB\n";
        assert_eq!(machine_available(text), Some(3 << 20));
        assert_eq!(machine_available("MemFree: 3 kB\n"), None);
    }

    #[test]
    fn a_group_counts_its_file_cache_as_reclaimable() {
        assert_eq!(file_cache("anon 5\nfile 100\ninactive_file 30\nactive_file 12\nshmem 70\n"), 42);
    }
}
