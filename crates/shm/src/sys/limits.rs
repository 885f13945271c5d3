//! How much memory an arena may take when nobody says.

use std::path::{Path, PathBuf};

/// Half of what this process may use: the smaller of the machine's memory and the memory limits of
/// its control groups (version 2 or 1), in bytes.
pub fn default_limit() -> u64 {
    let machine = machine_memory(Path::new("/proc/meminfo"));
    let group = cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let total = match (machine, group) {
        (Some(machine), Some(group)) => machine.min(group),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => 1 << 32,
    };
    (total / 2).max(64 << 20)
}

fn machine_memory(meminfo: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(meminfo).ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The smallest limit on the way from this process's group up to the root: each level counts.
fn cgroup_limit(membership: &Path, root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(membership).ok()?;
    let mut smallest: Option<u64> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (base, file): (PathBuf, &str) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut relative = PathBuf::from(path.trim_start_matches('/'));
        loop {
            // An unlimited group says "max" (version 2) or a number near 2^63 (version 1); an
            // empty or unreadable file says nothing.
            if let Ok(text) = std::fs::read_to_string(base.join(&relative).join(file))
                && let Ok(bytes) = text.trim().parse::<u64>()
                && bytes < 1 << 62
            {
                smallest = Some(smallest.map_or(bytes, |known| known.min(bytes)));
            }
            if !relative.pop() {
                break;
            }
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_positive_and_below_the_machine() {
        let limit = default_limit();
        assert!(limit >= 64 << 20);
        assert!(limit <= machine_memory(Path::new("/proc/meminfo")).unwrap());
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts_and_odd_files_do_not() {
        let dir = std::env::temp_dir().join(format!("breakeven-cg-{}", std::process::id()));
        let leaf = dir.join("cg/a/b");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(dir.join("self"), "0::/a/b\n").unwrap();
        std::fs::write(dir.join("cg/a/memory.max"), "1000\n").unwrap();
        std::fs::write(leaf.join("memory.max"), "max\n").unwrap();
        assert_eq!(cgroup_limit(&dir.join("self"), &dir.join("cg")), Some(1000));
        std::fs::write(leaf.join("memory.max"), "").unwrap();
        assert_eq!(cgroup_limit(&dir.join("self"), &dir.join("cg")), Some(1000));
        std::fs::write(leaf.join("memory.max"), "500").unwrap();
        assert_eq!(cgroup_limit(&dir.join("self"), &dir.join("cg")), Some(500));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
