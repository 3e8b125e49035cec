//! Reading mountinfo, proc_pid_mountinfo(5): which mounts there are and how
//! node_exporter labels them. Pure.

/// One mount that is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub device: String,
    /// As the host sees it.
    pub mount_point: String,
    pub fstype: String,
    pub major: String,
    pub minor: String,
    pub read_only: bool,
}

/// One line, or what is wrong with it.
///
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
pub fn parse_line(line: &str) -> Result<Mount, String> {
    let malformed = || format!("{line:?} is no mount");
    let (mount, filesystem) = line.split_once(" - ").ok_or_else(malformed)?;
    let mut words = mount.split_ascii_whitespace();
    let (major, minor) = words
        .nth(2)
        .and_then(|word| word.split_once(':'))
        .ok_or_else(malformed)?;
    let mount_point = words.nth(1).ok_or_else(malformed)?;
    let options = words.next().ok_or_else(malformed)?;
    // A source may be empty: then two blanks stand side by side.
    let mut words = filesystem.split(' ');
    let fstype = words.next().ok_or_else(malformed)?;
    let device = words.next().ok_or_else(malformed)?;
    let super_options = words.next().unwrap_or_default();
    Ok(Mount {
        device: unescaped(device),
        mount_point: unescaped(mount_point),
        fstype: fstype.to_owned(),
        major: major.to_owned(),
        minor: minor.to_owned(),
        read_only: has_option(options, "ro")
            || has_option(super_options, "ro")
            || has_option(super_options, "emergency_ro"),
    })
}

fn has_option(options: &str, option: &str) -> bool {
    options.split(',').any(|word| word == option)
}

/// The kernel writes blank, tab, line feed and backslash as `\ooo`.
fn unescaped(word: &str) -> String {
    let mut rest = word;
    let mut plain = String::with_capacity(word.len());
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let (c, used) = match rest.get(at + 1..at + 4) {
            Some("040") => (' ', 4),
            Some("011") => ('\t', 4),
            Some("012") => ('\n', 4),
            Some("134") => ('\\', 4),
            _ => ('\\', 1),
        };
        plain.push(c);
        rest = &rest[at + used..];
    }
    plain.push_str(rest);
    plain
}

/// The host's name of a mount point that we see below `rootfs`.
pub fn without_root(mount_point: &str, rootfs: &str) -> String {
    let rootfs = rootfs.trim_end_matches('/');
    match mount_point.strip_prefix(rootfs) {
        Some("") => "/".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => mount_point.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_line, without_root};
    use proptest::prelude::proptest;

    #[test]
    fn optional_fields_may_be_none_or_many() {
        for optional in ["", "shared:1 ", "shared:1 master:2 propagate_from:3 "] {
            let line =
                format!("36 35 259:9 / /data rw,noatime {optional}- ext4 /dev/nvme1n1 rw,discard");
            let mount = parse_line(&line).unwrap();
            assert_eq!(mount.mount_point, "/data");
            assert_eq!((&*mount.device, &*mount.fstype), ("/dev/nvme1n1", "ext4"));
            assert_eq!((&*mount.major, &*mount.minor), ("259", "9"));
            assert!(!mount.read_only);
        }
    }

    #[test]
    fn blanks_and_backslashes_in_names_are_read() {
        let line = r"1 2 0:5 / /mnt/a\040b\134c\x rw - cifs //server/my\040share rw";
        let mount = parse_line(line).unwrap();
        assert_eq!(mount.mount_point, r"/mnt/a b\c\x");
        assert_eq!(mount.device, "//server/my share");
    }

    #[test]
    fn read_only_is_said_by_mount_or_super_block() {
        for (mount, superblock, read_only) in [
            ("ro,relatime", "rw", true),
            ("rw", "ro", true),
            ("rw", "rw,emergency_ro", true),
            ("rw,errors=remount-ro", "rw,root=x", false),
        ] {
            let line = format!("1 2 8:1 / / {mount} - ext4 /dev/sda1 {superblock}");
            assert_eq!(parse_line(&line).unwrap().read_only, read_only, "{line}");
        }
    }

    #[test]
    fn the_root_prefix_goes_only_where_it_is_a_whole_path() {
        assert_eq!(without_root("/host/data", "/host"), "/data");
        assert_eq!(without_root("/host", "/host/"), "/");
        assert_eq!(without_root("/hostile", "/host"), "/hostile");
        assert_eq!(without_root("/data", "/"), "/data");
        assert_eq!(without_root("/", "/"), "/");
    }

    proptest! {
        #[test]
        fn any_line_ends_in_a_mount_or_a_reason(line in ".*") {
            let _ = parse_line(&line);
        }
    }
}
