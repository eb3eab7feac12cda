//! The data folder and the disk below it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Finding;
use crate::config::Config;

/// Less room than this is told, bytes.
const LITTLE: u64 = 256 << 20;
/// With less than this the next commits fail, bytes.
const TOO_LITTLE: u64 = 16 << 20;

/// Looks at both. False if there is no data folder, so nothing else to look at.
pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) -> bool {
    let data = &config.data;
    match fs::metadata(data) {
        Ok(found) if found.is_dir() => {}
        _ => {
            let found = format!("{} is not a folder", data.display());
            let next = "name the data folder with --data or the configuration with --config; a daemon that starts makes it";
            findings.push(Finding::wrong("data", found, next));
            return false;
        }
    }
    let open: Vec<String> = ["", "keys", "store", "registry"]
        .iter()
        .map(|name| if name.is_empty() { data.clone() } else { data.join(name) })
        .filter_map(|folder| is_open_to_others(&folder).then(|| folder.display().to_string()))
        .collect();
    if open.is_empty() {
        findings.push(Finding::ok("data", format!("{}, its owner's only", data.display())));
    } else {
        let found = format!("others have access to {}", open.join(", "));
        let next = format!("`chmod 700 {}`; if others may have read the keys, replace them", open.join(" "));
        findings.push(Finding::wrong("data", found, next));
    }
    findings.push(room(data));
    true
}

fn is_open_to_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

fn room(data: &Path) -> Finding {
    let found = match statvfs(data) {
        Ok(found) => found,
        Err(error) => {
            return Finding::warning(
                "disk",
                format!("its room cannot be told: {error}"),
                "look at the disk by other means",
            );
        }
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let said = format!("{} MiB free", free >> 20);
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let next = "mount it so that it can be written, then restart the daemon";
        return Finding::wrong("disk", "the data folder is on a disk that is read-only", next);
    }
    // File systems without a count of their own say 0 of 0.
    if found.f_files > 0 && found.f_favail == 0 {
        return Finding::wrong("disk", "no inodes are left", "remove files, then restart the daemon");
    }
    match free {
        0..TOO_LITTLE => Finding::wrong("disk", said, "make room, then restart the daemon"),
        TOO_LITTLE..LITTLE => {
            Finding::warning("disk", said, "make room soon: a full disk stops all publishing")
        }
        _ => Finding::ok("disk", said),
    }
}
